from __future__ import annotations

from typing import Any

import pytest
from tests.run_files import completed, dataset_of

from genaug.schema.classifiers import ClassifierSpec, Head, Tuning
from genaug.schema.common import Precision, TransformSpec, class_counts
from genaug.schema.completion import complete
from genaug.schema.generators import StableDiffusionSpec
from genaug.schema.run import Reduction, RunSpec, run_id
from genaug.schema.wire import from_proto, to_proto
from genaug.shared.errors import InvalidArgument
from genaug.v1 import run_pb2

DATASET = dataset_of("ADN")
BASE = {"stable_diffusion": {"base": "bases/" + "0" * 32, "prompts": "generic"}}
VGG = {"backbone": "VGG19", "tuning": "TUNING_FINE_TUNED"}


def scratch(**settings: Any) -> dict[str, Any]:
    return {"generator": {"class_conditional": settings}}


def base(**settings: Any) -> dict[str, Any]:
    return {"generator": {"stable_diffusion": {**BASE["stable_diffusion"], **settings}}}


def test_every_default_is_written_out() -> None:
    spec = completed()
    assert spec.classes == ("A", "D", "N")
    names = ["real", "real-balanced", "synthetic-x1", "synthetic-x2", "traditional-x1"]
    assert [scenario.name for scenario in spec.scenarios] == names
    assert spec.generator.image_size == 64
    assert spec.evaluation.seeds == 3
    assert complete(spec, DATASET) == spec
    assert complete(from_proto(RunSpec, to_proto(run_pb2.RunSpec, spec)), DATASET) == spec


def test_the_id_depends_on_settings_and_data() -> None:
    spec, other = completed(), completed({"evaluation": {"seeds": 4}})
    ids = {run_id(spec, DATASET), run_id(other, DATASET), run_id(spec, DATASET.model_copy(update={"digest": "e"}))}
    assert len(ids) == 3
    assert all(name.startswith("x-") for name in ids)


def test_dominant_classes_are_not_augmented() -> None:
    spec = completed({"selection": {"classes": ["N", "D"]}})
    assert spec.selection.classes == ("D", "N")
    assert spec.augmented_classes == ("A",)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "X"}, r"^name: 'X'"),
    ({"name": ""}, r"^name: ''"),
    ({"name": "../x"}, r"^name: "),
    ({"classes": ["A", "Q"]}, r"^classes\[1\]: 'Q' is not in datasets/odir; it has A, D, N"),
    ({"classes": ["A"]}, "at least two"),
    ({"classes": ["A", "A"]}, "twice"),
    ({"selection": {"classes": ["Q"]}}, r"^selection\.classes\[0\]"),
    ({"selection": {"classes": ["A", "D", "N"]}}, "leave at least one"),
    ({"selection": {"kept": -1}}, r"^selection\.kept: -1"),
    ({"scenarios": [{"name": "a", "synthetic": 1.0}, {"name": "b", "synthetic": 2.0}]}, "reference"),
    ({"scenarios": [{"name": "real"}]}, "nothing to compare"),
    ({"scenarios": [{"name": "real"}, {"name": "real"}]}, r"^scenarios\[1\]\.name: 'real' stands twice"),
    ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": -1.0}]}, r"^scenarios\[1\]\.synthetic"),
    ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": 16.5}]}, r"16\.5 is not within 0 and 16"),
    ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": float("nan")}]}, r"^scenarios\[1\]\.synthetic"),
    ({"scenarios": [{"name": "real"}, {"name": "b", "synthetic": "NaN"}]}, r"^scenarios\[1\]\.synthetic"),
    ({"scenarios": [{"name": "real"}, {"synthetic": 1.0}]}, r"^scenarios\[1\]\.name"),
    ({"scenarios": [{"name": "real"}, {"name": "b", "reduction": "REDUCTION_NONE"}]}, "nothing to reduce"),
    ({"evaluation": {"learning_rate": "NaN"}}, r"^evaluation\.learning_rate: nan"),
    ({"evaluation": {"seeds": 1}}, r"^evaluation\.seeds: 1 is not within 2 and 100"),
    ({"evaluation": {"folds": 3}}, r"^evaluation\.folds: 3 is neither 1 nor 5"),
    ({"evaluation": {"further": [{}]}}, r"further\[0\]: is the same"),
    ({"evaluation": {"further": [{"further": [{}]}]}}, r"^evaluation\.further"),
    ({"evaluation": {"further": [{"updates": 0}]}}, r"^evaluation\.further\[0\]\.updates: 0"),
    ({"evaluation": {"further": [{"folds": 5}]}}, r"further\[0\]\.folds"),
    ({"evaluation": {"metrics": ["speed"]}}, r"^evaluation\.metrics: 'speed' is no metric"),
    ({"generation": {"steps": 0}}, r"^generation\.steps: 0"),
    ({"generation": {"guidance_scale": 100.5}}, r"^generation\.guidance_scale"),
    ({"generation": {"scheduler": "DDIM"}}, r"^generation\.scheduler: 'DDIM' is none of DDIMScheduler"),
    ({"generation": {"precision": "PRECISION_INT8"}}, r"^generation\.precision: 8 bits"),
    ({"generation": {"strength": 0.5}}, r"^generation\.strength: is not available"),
    ({"generation": {"negative_prompt": "x"}}, r"^generation\.negative_prompt: is not available"),
    ({"generator": BASE, "generation": {"strength": 0.5, "scheduler": "PNDMScheduler"}}, "in the middle"),
    ({"generator": BASE, "generation": {"negative_prompt": "x" * 1001}}, "longer than 1000"),
    ({"labeling": {"seed": 2}}, r"^labeling\.seed: 2 is also an evaluator's seed"),
    ({"labeling": {"second_seed": 1000}}, r"^labeling\.second_seed: 1000 is the labeler's own"),
    ({"labeling": {"learning_rate": 2.0}}, r"^labeling\.learning_rate: 2\.0"),
    ({"labeling": {"precision": "PRECISION_INT8"}}, r"^labeling\.precision: INT8 is not available"),
    ({"labeling": {"classifier": {"backbone": "VGG18"}}}, r"^labeling\.classifier\.backbone: .*did you mean VGG19"),
    (
        {"labeling": {"classifier": {"backbone": "SMALL_CNN", "tuning": "TUNING_FROZEN"}}},
        r"^labeling\.classifier: SMALL_CNN learns every layer",
    ),
    ({"labeling": {"classifier": {**VGG, "head": "HEAD_DENSE"}}}, r"^labeling\.classifier\.head: DENSE stands"),
    ({"labeling": {"training": {"precision": "PRECISION_BFLOAT16"}}}, r"^labeling\.training: augment and precision"),
    (
        {"evaluation": {"classifier": {"backbone": "SMALL_CNN", "image_size": 128}}},
        r"classifier\.image_size: 128 is not within 8 and 64",
    ),
    ({"evaluation": {"classifier": {**VGG, "image_size": 31}}}, r"image_size: 31 is not within 32 and 1024"),
    ({"evaluation": {"classifier": {**VGG, "head": "HEAD_PUBLISHED"}, "batch_size": 1}}, "take 2 or more"),
    ({"evaluation": {"classifier": {"head": "HEAD_LOGISTIC", "tuning": "TUNING_FINE_TUNED"}}}, "head: LOGISTIC"),
    ({"evaluation": {"classifier": {"weights": "none"}}}, r"classifier\.weights: random"),
    ({"evaluation": {"training": {"augment": {}}}}, r"training: augment and precision.*FINE_TUNED"),
    ({"evaluation": {"classifier": VGG, "training": {"precision": "PRECISION_INT8"}}}, r"training\.precision: 8 bits"),
    ({"evaluation": {"classifier": VGG, "training": {"augment": {"shift": 0.9}}}}, r"augment\.shift: 0\.9"),
    (
        {
            "evaluation": {
                "classifier": VGG,
                "training": {"augment": dict.fromkeys(("rotate_degrees", "shift", "scale", "color"), 0.0)},
            }
        },
        "every range is 0",
    ),
    (
        {"evaluation": {"classifier": {"head": "HEAD_LOGISTIC"}, "training": {"class_weights": True}}},
        "class_weights and decay",
    ),
    ({"transforms": {"rotate_degrees": 181}}, r"^transforms\.rotate_degrees: 181"),
    ({"generator": {"image_size": 12}}, r"^generator\.image_size: 12"),
    ({"generator": {"image_size": 512}}, r"^generator\.image_size: 512 is above 64"),
    ({"generator": {"image_size": 136, "class_conditional": {"autoencoder": "/w"}}}, "136 is not a multiple of 16"),
    ({"generator": {"transforms": {}}}, r"^generator\.transforms: draws nothing synthetic"),
    ({"generator": {"transforms": {}, **BASE}}, "has one kind"),
    ({"generator": {"plugin": {"name": "dream"}}}, r"'dream' is no generator kind"),
    (scratch(base_channels=33), r"^generator\.class_conditional\.base_channels: 33 is not a multiple of 8"),
    (scratch(learning_rate="Infinity"), r"^generator\.class_conditional\.learning_rate: inf"),
    (
        {"generator": {"image_size": 8, "class_conditional": {"patch_size": 4}}},
        r"^generator\.class_conditional\.patch_size",
    ),
    (scratch(patch_size=3), r"^generator\.class_conditional\.patch_size: 3"),
    (scratch(held_out=0.9), r"^generator\.class_conditional\.held_out: 0\.9"),
    (scratch(precision="PRECISION_INT8"), r"^generator\.class_conditional\.precision: 8 bits"),
    (base(base=""), r"^generator\.stable_diffusion\.base: name the Stable Diffusion model"),
    (base(lora={}, weights="WEIGHTS_ALL"), r"lora: weights ALL has no adapter"),
    (base(dreambooth={}), r"dreambooth: is for method DREAMBOOTH"),
    (base(lora={"rank": 0}), r"lora\.rank: 0 is not within 1 and 512"),
    (base(lora={"alpha": -1.0}), r"lora\.alpha: -1"),
    (base(method="METHOD_DREAMBOOTH", dreambooth={"prior_images": -1}), r"dreambooth\.prior_images: -1"),
    (base(method="METHOD_DREAMBOOTH", dreambooth={"prior_weight": "NaN"}), r"dreambooth\.prior_weight: nan"),
    (base(min_snr=-1.0), r"min_snr: -1"),
    (base(memorized=1.5), r"memorized: 1\.5"),
    (base(accumulation=3), "accumulation: 3 does not divide batch_size 4"),
    (base(compared_prompts="generic"), r"compared_prompts: 'generic' is what prompts has"),
    (base(prompts="nice"), r"^generator\.stable_diffusion\.prompts: 'nice' is none of"),
    (base(captions={"Q": "x"}), r"captions: 'Q' is none of the classes that are drawn"),
    (base(compared_prompts="nice"), r"compared_prompts: 'nice' is none of"),
    ({"generator": {"image_size": 12, **BASE}}, "12 is not a multiple of 8"),
    ({"generator": {"image_size": 1032, **BASE}}, r"^generator\.image_size: 1032"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_wrong_run_file_is_refused_by_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        completed(change)
    assert caught.value.reason == "BAD_RUN_FILE"


def test_all_offenders_are_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        completed({"generation": {"steps": 0}, "evaluation": {"seeds": 1}, "labeling": {"updates": 0}})
    assert [part.partition(":")[0] for part in caught.value.message.split("; ")] == [
        "generation.steps",
        "labeling.updates",
        "evaluation.seeds",
    ]
    with pytest.raises(InvalidArgument) as caught:
        completed({"classes": ["A", "Q"], "generator": {"image_size": 12}, "labeling": {"seed": 1}})
    assert all(path in caught.value.message for path in ("classes[1]", "generator.image_size", "labeling.seed"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"training": class_counts({"A": 7, "D": 60, "N": 60})}, r"^classes\[0\]: 'A' has 7 training images"),
        ({"test": class_counts({"A": 60, "D": 60})}, r"^classes\[2\]: 'N' has no sealed image"),
        ({"validation": ()}, "^classes: datasets/odir has no validation images"),
    ],
)
def test_classes_that_a_later_step_would_refuse_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        completed(of=dataset_of("ADN", **fields))


def test_folds_need_no_sealed_image() -> None:
    assert completed({"evaluation": {"folds": 5}}, of=dataset_of("ADN", test=())).evaluation.folds == 5


def test_a_selection_has_its_random_control() -> None:
    spec = completed({"selection": {"classes": ["N", "D"]}})
    assert (spec.scenarios[-1].name, spec.scenarios[-1].reduction) == ("real-random", Reduction.RANDOM)
    assert complete(spec, DATASET) == spec
    own = [{"name": "real"}, {"name": "c", "reduction": "REDUCTION_RANDOM"}]
    chosen = completed({"selection": {"classes": ["N"]}, "scenarios": own})
    assert [scenario.name for scenario in chosen.scenarios] == ["real", "c"]
    with pytest.raises(InvalidArgument, match="kept for the selection's random control"):
        completed(
            {"selection": {"classes": ["N"]}, "scenarios": [{"name": "real"}, {"name": "real-random", "synthetic": 1}]}
        )


def test_networks_follow_the_images_and_the_generators_size() -> None:
    spec = completed({"generator": {"image_size": 32}})
    for part in (spec.labeling, spec.evaluation):
        assert part.classifier == ClassifierSpec(
            backbone="EFFICIENTNET_LITE0",
            image_size=224,
            tuning=Tuning.FROZEN,
            head=Head.LINEAR,
            weights="imagenet",
            pre_resize=32,
        )
    tiny = completed(of=dataset_of("ADN", median_side=8))
    assert tiny.labeling.classifier.backbone == "SMALL_CNN"
    assert tiny.evaluation.classifier.weights == "none"


def test_further_evaluators_inherit_from_the_first() -> None:
    spec = completed(
        {"evaluation": {"seeds": 4, "learning_rate": 0.01, "further": [{"classifier": VGG, "updates": 50}]}}
    )
    first, second = spec.evaluation.evaluators
    assert (first.seeds, first.updates, first.learning_rate) == (4, 600, 0.01)
    assert (second.seeds, second.updates, second.learning_rate) == (4, 50, 0.0002)
    assert not first.further
    assert not second.further
    assert complete(spec, DATASET) == spec
    assert to_proto(run_pb2.RunSpec, spec).evaluation.further[0].classifier.backbone == "VGG19"


def test_training_options_have_their_defaults_written_out() -> None:
    labeling = completed().labeling
    assert (labeling.batch_size, labeling.learning_rate, labeling.second_seed) == (64, 0.002, 2000)
    moved = {"backbone": "MOBILENET_V2", "tuning": "TUNING_FINE_TUNED"}
    options = {"decay": "DECAY_PLATEAU", "class_weights": True, "augment": {"shift": 0.1, "horizontal_flip": True}}
    spec = completed({"evaluation": {"classifier": moved, "training": options}})
    assert spec.evaluation.training.augment == TransformSpec(horizontal_flip=True, shift=0.1)
    assert spec.evaluation.training.precision == Precision.FLOAT32
    assert complete(from_proto(RunSpec, to_proto(run_pb2.RunSpec, spec)), DATASET) == spec


def test_generation_has_the_defaults_of_the_kind() -> None:
    scratch_, base_ = completed().generation, completed(base()).generation
    assert (scratch_.steps, scratch_.guidance_scale, scratch_.seed) == (20, 1.5, 0)
    assert (base_.steps, base_.guidance_scale, base_.keep_copies) == (25, 7.5, False)
    published = completed(base(preset="PRESET_PUBLISHED")).generation
    assert (published.steps, published.guidance_scale, published.scheduler, published.seed) == (
        50, 7.5, "DDIMScheduler", 52362
    )  # fmt: skip
    assert completed({**base(preset="PRESET_PUBLISHED"), "generation": {"steps": 9}}).generation.steps == 9


def test_latents_are_kept_where_drawing_starts_from_them() -> None:
    def keeps(spec: RunSpec) -> bool:
        assert isinstance(spec.generator.stable_diffusion, StableDiffusionSpec)
        return spec.generator.stable_diffusion.keep_latents

    assert not keeps(completed(base()))
    assert keeps(completed({**base(), "generation": {"strength": 0.5}}))
    assert keeps(completed(base(keep_latents=True)))
