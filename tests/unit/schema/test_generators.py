from __future__ import annotations

from typing import Any

import pytest

from genaug.schema.common import TransformSpec
from genaug.schema.generators import (
    Decay,
    DreamBoothSpec,
    GeneratorSpec,
    LoraSpec,
    Method,
    StableDiffusionSpec,
    TrainedWeights,
    from_flat_form,
)
from genaug.schema.jobs import FinetuneInputs
from genaug.schema.model import parse
from genaug.schema.wire import from_proto, to_proto
from genaug.v1 import generator_spec_pb2

BASE = {"base": "bases/" + "0" * 32}


def base(**settings: Any) -> StableDiffusionSpec:
    return parse(StableDiffusionSpec, {**BASE, **settings})


def test_the_defaults_are_those_of_the_kind() -> None:
    spec = GeneratorSpec()
    assert spec.kind_name == "class_conditional"
    assert spec.class_conditional is not None
    assert (spec.class_conditional.batch_size, spec.class_conditional.learning_rate) == (64, 0.003)
    settings = base()
    assert (settings.batch_size, settings.learning_rate, settings.min_snr, settings.memorized) == (4, 0.0001, 5.0, 0.25)
    assert settings.lora == LoraSpec(rank=8, alpha=8.0)
    assert settings.dreambooth is None


@pytest.mark.parametrize(
    "generator",
    [
        {},
        {"transforms": {}},
        {"stable_diffusion": BASE},
        {"stable_diffusion": {**BASE, "method": "METHOD_DREAMBOOTH"}},
        {"stable_diffusion": {**BASE, "preset": "PRESET_PUBLISHED"}},
    ],
)
def test_a_completed_generator_survives_the_wire(generator: dict[str, Any]) -> None:
    spec = parse(GeneratorSpec, generator).completed(64)
    assert spec.completed(64) == spec
    assert from_proto(GeneratorSpec, to_proto(generator_spec_pb2.GeneratorSpec, spec)) == spec


def test_the_adapters_scale_follows_its_rank() -> None:
    assert base(lora={"rank": 3}).lora == LoraSpec(rank=3, alpha=3.0)
    lora = base(lora={"rank": 3, "alpha": 6.0, "targets": ["conv1"]}).lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.targets) == (3, 6.0, ("conv1",))


def test_the_published_preset_is_written_out_and_overridden_by_the_run_file() -> None:
    settings = base(preset="PRESET_PUBLISHED", train_steps=100, dreambooth={"prior_images": 7})
    assert (settings.weights, settings.text_encoder, settings.eight_bit_adam) == (TrainedWeights.ALL, True, True)
    assert (settings.batch_size, settings.learning_rate, settings.decay) == (1, 1e-6, Decay.CONSTANT)
    assert (settings.ema_decay, settings.min_snr, settings.memorized, settings.method) == (0, 0, 1, Method.DREAMBOOTH)
    assert settings.train_steps == 100
    assert settings.dreambooth == DreamBoothSpec(prior_images=7, prior_weight=1.0, per_class=True)
    assert settings.lora is None
    generator = parse(GeneratorSpec, {"stable_diffusion": {**BASE, "preset": "PRESET_PUBLISHED"}})
    assert (generator.fitting_size(2000), generator.completed(512).seed) == (512, 1337)


@pytest.mark.parametrize(("median", "size"), [(8, 64), (100, 64), (200, 192), (256, 256), (2000, 512)])
def test_the_size_fits_the_dataset_and_the_base(median: int, size: int) -> None:
    spec = parse(GeneratorSpec, {"stable_diffusion": BASE})
    assert spec.fitting_size(median) == size
    assert spec.replace(image_size=768).fitting_size(median) == 768


def test_a_preset_names_no_generator_of_its_own() -> None:
    """It is written out: the same values without its name are the same generator."""
    preset = parse(GeneratorSpec, {"stable_diffusion": {**BASE, "preset": "PRESET_PUBLISHED"}}).completed(512)
    assert preset.stable_diffusion is not None
    plain = preset.replace(stable_diffusion=preset.stable_diffusion.model_copy(update={"preset": None}))
    assert preset.trained_form() == plain.trained_form()


def flat(**fields: Any) -> dict[str, Any]:
    shared = {
        "precision": "PRECISION_FLOAT32", "horizontal_flip": False, "seed": 0, "held_out": 0.05, "sample_grids": 4,
        "train_steps": 800,
    }  # fmt: skip
    return {**shared, **fields}


@pytest.mark.parametrize(
    ("generator", "expected"),
    [
        (
            {"image_size": 8},
            flat(
                kind="KIND_CLASS_CONDITIONAL", image_size=8, autoencoder="", batch_size=64, learning_rate=0.003,
                ema_decay=0.995, base_channels=32, patch_size=0, prediction="PREDICTION_V",
            ),
        ),
        (
            {"image_size": 64, "transforms": {"shift": 0.1}},
            {
                "kind": "KIND_TRANSFORMS", "image_size": 64, "seed": 0,
                "transforms": {
                    "horizontal_flip": False, "rotate_degrees": 10.0, "shift": 0.1, "scale": 0.1, "colour": 0.1
                },
            },
        ),
        (
            {"image_size": 64, "stable_diffusion": {"base": "b", "compared_prompts": "generic"}},
            flat(
                kind="KIND_STABLE_DIFFUSION", image_size=64, base="b", method="METHOD_LORA", prompts="disease-specific",
                weights="WEIGHTS_ADAPTER", decay="DECAY_COSINE", text_encoder=False, gradient_checkpointing=False,
                eight_bit_adam=False, keep_latents=False, batch_size=4, learning_rate=0.0001, ema_decay=0.99,
                accumulation=1, min_snr=5.0, memorised=0.25,
                lora={"targets": ["to_q", "to_k", "to_v", "to_out.0"], "rank": 8, "alpha": 8.0},
            ),
        ),
    ],
)  # fmt: skip
def test_names_of_generators_follow_the_form_of_their_recipe(generator: dict, expected: dict) -> None:
    """Generators of earlier releases are found again: the digest is over the flat form that they had."""
    spec = parse(GeneratorSpec, generator).completed(generator["image_size"]).trained_form()
    assert spec.digest_form() == expected
    assert parse(GeneratorSpec, from_flat_form(expected)) == spec


def test_the_name_of_a_generator_is_pinned() -> None:
    inputs = FinetuneInputs(
        dataset_version="datasets/d/versions/v",
        classes=("a", "b"),
        generator=GeneratorSpec(image_size=8, seed=0).completed(8),
        channels=1,
    )
    assert inputs.result == "generators/9e1dbb262f00a8dda6406fb4982f5c54"
    ranges = GeneratorSpec(image_size=8, seed=0, transforms=TransformSpec())
    assert inputs.replace(generator=ranges).result == "generators/f0ee5c812796e8d20ce0d93a3d8d2cd5"
