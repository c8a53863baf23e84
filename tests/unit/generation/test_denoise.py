"""Our denoising loop draws the same images as diffusers' pipelines from the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from obstore.store import MemoryStore
from tests.conftest import Stores
from tests.tiny_base import write_tiny_base
from tests.unit.generation.conftest import CLASSES, loader, put_adapter

from genaug.generation.diffusion.denoise import Cohort, step
from genaug.generation.generators.stable_diffusion.base_models import import_base
from genaug.generation.generators.stable_diffusion.generator import StableDiffusion
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.sampling import SCHEDULERS, Profile, Sampler
from genaug.shared.store import Store
from genaug.vision.images.pixels import Pixels

REQUESTS = [ImageRequest("lies", 3, 0), ImageRequest("stands", 3, 1)]
CAPTIONS = [f"a photograph of class {request.class_name}" for request in REQUESTS]
STOCHASTIC = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")


@pytest.fixture(scope="module")
def stores() -> Stores:
    """One store for all tests here: the base is imported and loaded once."""
    backend = MemoryStore()
    return lambda role: Store(backend, role, url="memory://")


@pytest.fixture(scope="module")
def generator(stores: Stores, base: Path) -> StableDiffusion:
    """A generator that draws with the base's own weights."""
    return base_generator(stores, base)


def base_generator(stores: Stores, base: Path, **changes: Any) -> StableDiffusion:
    """A generator that draws with the base's own weights."""
    generator = loader(stores).generator(put_adapter(stores, base, targets=("nothing",), **changes))
    assert isinstance(generator, StableDiffusion)
    return generator


def reference_pipeline(stores: Stores, base: Path, scheduler: str, kind: Any = StableDiffusionPipeline) -> Any:
    """diffusers' pipeline over the same base."""
    model = import_base(stores("finetune"), str(base))
    text = model.text_encoder()
    pipeline = kind(
        vae=model.autoencoder().inner, text_encoder=text.network, tokenizer=text._tokenizer, unet=model.unet(),
        scheduler=getattr(diffusers, scheduler).from_config(model.schedule | {"skip_prk_steps": True}),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_pixels(generator: StableDiffusion, sampler: Sampler, requests: list[ImageRequest] = REQUESTS) -> list[Pixels]:
    return [image.pixels for image in draw(generator, requests, sampler=sampler, is_active=lambda: True)]


def assert_alike(images: list[Pixels], expected: np.ndarray) -> None:
    assert np.std(expected) > 0.02, "an image, not one color"
    assert np.abs(np.stack(images) - expected * 255).max() <= 2


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - set(STOCHASTIC)))
def test_images_equal_those_of_diffusers_pipeline(
    stores: Stores, base: Path, generator: StableDiffusion, scheduler: str
) -> None:
    sampler = Sampler(steps=7, guidance_scale=7.5, scheduler=scheduler, negative_prompt="a fundus eye")
    expected = reference_pipeline(stores, base, scheduler)(
        CAPTIONS, negative_prompt=["a fundus eye"] * 2, num_inference_steps=7, guidance_scale=7.5,
        latents=generator.begin(REQUESTS, sampler).noise, output_type="np",
    )  # fmt: skip
    assert_alike(draw_pixels(generator, sampler), expected.images)


def test_a_base_that_predicts_the_velocity_draws_as_in_diffusers(stores: Stores, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "velocity", prediction="v_prediction")
    generator = base_generator(stores, base)
    sampler = Sampler(steps=5, guidance_scale=3.0, scheduler="DDIMScheduler")
    expected = reference_pipeline(stores, base, "DDIMScheduler")(
        CAPTIONS, num_inference_steps=5, guidance_scale=3.0, output_type="np",
        latents=generator.begin(REQUESTS, sampler).noise,
    )  # fmt: skip
    assert_alike(draw_pixels(generator, sampler), expected.images)


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_images_from_training_images_equal_those_of_diffusers_pipeline(
    stores: Stores, base: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = base_generator(stores, base, latents=True)
    sampler = Sampler(steps=8, guidance_scale=7.5, scheduler=scheduler, strength=0.5)
    start = generator.begin(REQUESTS, sampler)
    assert start.images is not None
    module = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor"
    monkeypatch.setattr(module, lambda shape, **options: start.noise)
    expected = reference_pipeline(stores, base, scheduler, StableDiffusionImg2ImgPipeline)(
        CAPTIONS, image=start.images, strength=0.5, num_inference_steps=8, guidance_scale=7.5, output_type="np"
    )
    images = draw_pixels(generator, sampler)
    assert_alike(images, expected.images)
    assert not np.array_equal(images, draw_pixels(generator, sampler.replace(strength=1.0)))


def rows_per_step(generator: StableDiffusion, sampler: Sampler) -> list[int]:
    """Rows of each step, without padding."""
    with torch.inference_mode():
        cohort, rows = Cohort(generator, REQUESTS, sampler), []
        while not cohort.finished:
            rows.append(len(cohort.rows().samples))
            step(generator, [cohort], bucket=generator.bucket)
        return rows


def test_turbo_guides_the_first_half_alone(stores: Stores, base: Path) -> None:
    generator = base_generator(stores, base)
    assert rows_per_step(generator, Sampler(steps=4)) == [4, 4, 4, 4]
    assert rows_per_step(generator, Sampler(steps=4, profile=Profile.TURBO)) == [4, 4, 2, 2]
    assert rows_per_step(generator, Sampler(steps=3, guidance_scale=1)) == [2, 2, 2]
    full, turbo = (draw_pixels(generator, Sampler(steps=4, profile=profile)) for profile in Profile)
    assert not np.array_equal(full, turbo)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_image_does_not_depend_on_the_others_of_its_cohort(generator: StableDiffusion, scheduler: str) -> None:
    sampler = Sampler(steps=3, guidance_scale=3.0, scheduler=scheduler)
    requests = [ImageRequest(CLASSES[index % 2], 0, index) for index in range(generator.bucket)]
    together = draw_pixels(generator, sampler, requests)
    assert np.array_equal(draw_pixels(generator, sampler, [requests[5]])[0], together[5])
    assert np.array_equal(draw_pixels(generator, sampler, requests[4::-1])[::-1], together[:5])
    assert len({image.tobytes() for image in together}) == len(together)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_each_image_has_its_own_step_noise(stores: Stores, base: Path, name: str) -> None:
    generator, sampler = base_generator(stores, base), Sampler(steps=2, scheduler=name)
    requests = [ImageRequest("lies", 0, 0), ImageRequest("lies", 0, 0), ImageRequest("lies", 0, 1)]
    with torch.inference_mode():
        cohort = Cohort(generator, requests, sampler)
        generators = cohort._step_options["generator"]
        before = [source.get_state() for source in generators]
        step(generator, [cohort], bucket=8)
        assert torch.equal(cohort.samples[0], cohort.samples[1])
    assert torch.equal(before[0], before[1])
    assert not torch.equal(before[0], before[2])
    assert not torch.equal(before[0], generators[0].get_state()), "each step has new noise"


def test_at_least_one_step_is_taken_however_low_the_strength(stores: Stores, base: Path) -> None:
    generator = base_generator(stores, base, latents=True)
    for scheduler in ("DPMSolverMultistepScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler"):
        cohort = Cohort(generator, REQUESTS, Sampler(steps=1000, strength=0.0001, scheduler=scheduler))
        assert cohort.steps == 1


def test_cohorts_at_different_steps_share_a_batch(stores: Stores, base: Path) -> None:
    generator, sampler = base_generator(stores, base), Sampler(steps=3, guidance_scale=2.0)
    late = sampler.replace(steps=5, scheduler="EulerDiscreteScheduler", guidance_scale=1.0)
    with torch.inference_mode():
        first, second = Cohort(generator, REQUESTS[:1], sampler), Cohort(generator, REQUESTS[1:], late)
        step(generator, [first], bucket=8)
        while not (first.finished and second.finished):
            step(generator, [cohort for cohort in (first, second) if not cohort.finished], bucket=8)
        together = [first.drawn(8)[0].pixels, second.drawn(8)[0].pixels]
    alone = [draw_pixels(generator, sampler, REQUESTS[:1])[0], draw_pixels(generator, late, REQUESTS[1:])[0]]
    assert np.array_equal(together, alone)


def test_images_that_are_not_finite_are_marked(stores: Stores, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = base_generator(stores, base)
    original = generator.begin

    def begin(requests: Any, sampler: Sampler) -> Any:
        start = original(requests, sampler)
        start.noise[0] = float("nan")
        return start

    monkeypatch.setattr(generator, "begin", begin)
    images = draw(generator, REQUESTS, sampler=Sampler(steps=2), is_active=lambda: True)
    assert [image.finite for image in images] == [False, True]
