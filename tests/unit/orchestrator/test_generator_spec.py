from __future__ import annotations

import copy
from typing import Any

import pytest

from genaug.orchestrator.generator_spec import PUBLISHED_DRAWING, complete_generator, generator_with_defaults
from genaug.orchestrator.spec import complete
from genaug.shared.errors import InvalidArgument
from genaug.shared.protojson import from_dict, to_dict
from genaug.v1 import run_pb2

BASE = {"kind": "KIND_STABLE_DIFFUSION", "base": "bases/" + "0" * 32}
DATASET = {
    "name": "datasets/odir",
    "digest": "d",
    "median_side": 256,
    "channels": 3,
    "folds": 5,
    "training": [{"class_name": name, "count": 50} for name in "ADN"],
}
DREAMBOOTH = {"method": "METHOD_DREAMBOOTH"}


def completed(given: dict[str, Any], *, median_side: int = 256, strength: float = 0.0) -> dict[str, Any]:
    found = generator_with_defaults(given)
    generation = {"negative_prompt": "", "strength": strength}
    complete_generator(found, generation, {"median_side": median_side}, classes=["A", "D"])
    return found


def whole(generator: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return complete({"name": "x", "dataset": "odir", "generator": generator, **parts}, DATASET)


def test_the_defaults_are_those_of_the_kind() -> None:
    scratch, base = generator_with_defaults({}), generator_with_defaults(BASE)
    assert (scratch["batch_size"], scratch["learning_rate"], scratch["base_channels"]) == (64, 0.003, 32)
    assert (base["batch_size"], base["learning_rate"], base["min_snr"], base["memorised"]) == (4, 0.0001, 5.0, 0.25)
    assert (base["method"], base["weights"], base["prompts"]) == ("METHOD_LORA", "WEIGHTS_ADAPTER", "disease-specific")
    assert base["lora"] == {"rank": 8, "alpha": 8.0, "targets": ["to_q", "to_k", "to_v", "to_out.0"]}
    assert "dreambooth" not in base
    assert not {"base_channels", "patch_size", "prediction", "autoencoder"} & base.keys()
    assert not {"lora", "method", "min_snr", "accumulation"} & scratch.keys()
    assert generator_with_defaults({"kind": "KIND_TRANSFORMS"})["kind"] == "KIND_TRANSFORMS"


@pytest.mark.parametrize("given", [BASE, BASE | DREAMBOOTH, BASE | {"preset": "PRESET_PUBLISHED"}, {}])
def test_what_is_complete_stays_as_it_is(given: dict[str, Any]) -> None:
    found = completed(given)
    assert completed(copy.deepcopy(found)) == found
    message = from_dict(run_pb2.GeneratorSpec, found)
    assert completed(to_dict(message)) == found


def test_the_adapters_scale_follows_its_rank() -> None:
    assert generator_with_defaults(BASE | {"lora": {"rank": 3}})["lora"]["alpha"] == 3.0
    lora = generator_with_defaults(BASE | {"lora": {"rank": 3, "alpha": 6.0, "targets": ["conv1"]}})["lora"]
    assert lora == {"rank": 3, "alpha": 6.0, "targets": ["conv1"]}


def test_the_published_preset_is_written_out_and_gives_way_to_what_is_said() -> None:
    found = completed(BASE | {"preset": "PRESET_PUBLISHED", "train_steps": 100, "dreambooth": {"prior_images": 7}})
    assert (found["weights"], found["text_encoder"], found["eight_bit_adam"]) == ("WEIGHTS_ALL", True, True)
    assert (found["image_size"], found["batch_size"], found["learning_rate"], found["seed"]) == (512, 1, 1e-6, 1337)
    assert (found["ema_decay"], found["min_snr"], found["memorised"], found["decay"]) == (0, 0, 1, "DECAY_CONSTANT")
    assert found["train_steps"] == 100
    assert found["dreambooth"] == {
        "prior_images": 7, "prior_weight": 1.0, "per_class": True, "token": "sks", "prior_caption": "a photograph",
    }  # fmt: skip
    assert "lora" not in found


def test_the_preset_draws_as_the_study_did() -> None:
    generation = whole(BASE | {"preset": "PRESET_PUBLISHED"})["generation"]
    assert {key: generation[key] for key in PUBLISHED_DRAWING} == PUBLISHED_DRAWING
    assert whole(BASE | {"preset": "PRESET_PUBLISHED"}, generation={"steps": 9})["generation"]["steps"] == 9
    plain = whole(BASE)["generation"]
    assert (plain["steps"], plain["guidance_scale"]) == (25, 7.5)
    scratch = whole({})["generation"]
    assert (scratch["steps"], scratch["guidance_scale"]) == (20, 1.5)


def test_a_run_file_is_complete_whatever_its_kind() -> None:
    for generator in (BASE, BASE | {"preset": "PRESET_PUBLISHED"}, BASE | DREAMBOOTH):
        spec = whole(generator)
        assert complete(copy.deepcopy(spec), DATASET) == spec
        assert complete(to_dict(from_dict(run_pb2.RunSpec, spec)), DATASET) == spec


@pytest.mark.parametrize(("median", "size"), [(8, 64), (100, 64), (200, 192), (256, 256), (2000, 512)])
def test_the_size_fits_the_dataset_and_the_base(median: int, size: int) -> None:
    assert completed(BASE, median_side=median)["image_size"] == size
    assert completed(BASE | {"image_size": 768}, median_side=median)["image_size"] == 768


def test_latents_travel_along_where_drawing_starts_from_them() -> None:
    assert completed(BASE)["keep_latents"] is False
    assert completed(BASE, strength=0.5)["keep_latents"] is True
    assert completed(BASE | {"keep_latents": True})["keep_latents"] is True


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "KIND_STABLE_DIFFUSION"}, r"generator\.base: name the Stable Diffusion model"),
        (BASE | {"base_channels": 32}, r"generator\.base_channels: is for kind CLASS_CONDITIONAL, not STABLE"),
        (BASE | {"autoencoder": "/x"}, r"generator\.autoencoder: is for kind"),
        (BASE | {"prediction": "PREDICTION_V"}, r"generator\.prediction: is for kind"),
        ({"base": "x"}, r"generator\.base: is for kind STABLE_DIFFUSION, not CLASS_CONDITIONAL"),
        ({"lora": {"rank": 4}}, r"generator\.lora: is for kind STABLE_DIFFUSION"),
        ({"captions": {"A": "x"}}, r"generator\.captions: is for kind"),
        ({"preset": "PRESET_PUBLISHED"}, r"generator\.preset: is for kind"),
        ({"accumulation": 2}, r"generator\.accumulation: is for kind"),
        ({"kind": "KIND_TRANSFORMS", "min_snr": 5.0}, r"generator\.min_snr: .* not TRANSFORMS"),
        (BASE | {"lora": {}, "weights": "WEIGHTS_ALL"}, r"generator\.lora: weights ALL has no adapter"),
        (BASE | {"dreambooth": {}}, r"generator\.dreambooth: is for method DREAMBOOTH"),
        (BASE | {"lora": {"rank": 0}}, r"generator\.lora\.rank: 0 is not within 1 and 512"),
        (BASE | {"lora": {"alpha": -1.0}}, r"generator\.lora\.alpha: -1"),
        (BASE | DREAMBOOTH | {"dreambooth": {"prior_images": -1}}, r"generator\.dreambooth\.prior_images: -1"),
        (BASE | DREAMBOOTH | {"dreambooth": {"prior_weight": float("nan")}}, r"dreambooth\.prior_weight: nan"),
        (BASE | {"min_snr": -1.0}, r"generator\.min_snr: -1"),
        (BASE | {"memorised": 1.5}, r"generator\.memorised: 1\.5"),
        (BASE | {"memorised": "NaN"}, r"generator\.memorised: NaN"),
        (BASE | {"accumulation": 3}, r"generator\.accumulation: 3 does not divide generator\.batch_size 4"),
        (BASE | {"accumulation": 0}, r"generator\.accumulation: 0"),
        (BASE | {"image_size": 12}, r"generator\.image_size: 12 is not a multiple of 8"),
        (BASE | {"image_size": 1032}, r"generator\.image_size: 1032"),
        (BASE | {"captions": {"Q": "x"}}, r"generator\.captions: 'Q' is none of the classes that are drawn: A, D"),
    ],
)
def test_what_contradicts_itself_is_refused_by_path(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        completed(given)
    assert caught.value.reason == "BAD_RUN_FILE"


@pytest.mark.parametrize("generation", [{"negative_prompt": "x"}, {"strength": 0.5}])
def test_drawing_that_only_a_base_can_do_is_refused_elsewhere(generation: dict[str, Any]) -> None:
    [key] = generation
    with pytest.raises(InvalidArgument, match=rf"generation\.{key}: is for generator\.kind STABLE_DIFFUSION"):
        whole({}, generation=generation)
    assert whole(BASE, generation=generation)["generation"][key]
