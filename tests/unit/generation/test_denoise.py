"""What our own loop draws is what diffusers' pipelines draw from the same noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from tests.conftest import Stores
from tests.tiny_base import write_tiny_base
from tests.unit.generation.conftest import CLASSES, loader, put_adapter

from genaug.generation.diffusion.denoise import Cohort, step
from genaug.generation.generators.stable_diffusion.base_models import bring_base
from genaug.generation.generators.stable_diffusion.generator import StableDiffusion, _noise
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import Sampler, Wanted
from genaug.generation.sampling.sampler_settings import SCHEDULERS
from genaug.vision.images.pixels import Pixels

SHAPE = (4, 8, 8)
WANTED = [Wanted("lies", 3, 0), Wanted("stands", 3, 1)]
CAPTIONS = [f"a photograph of class {one.class_name}" for one in WANTED]
STOCHASTIC = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")


def plain(stores: Stores, base: Path, **changes: Any) -> StableDiffusion:
    """A generator that draws with the base's own weights."""
    found = loader(stores).generator(put_adapter(stores, base, targets=("nothing",), **changes))
    assert isinstance(found, StableDiffusion)
    return found


def theirs(stores: Stores, base: Path, scheduler: str, kind: Any = StableDiffusionPipeline) -> Any:
    """diffusers' pipeline over the same base."""
    found = bring_base(stores("finetune"), str(base))
    text = found.text_encoder()
    pipeline = kind(
        vae=found.autoencoder().inner, text_encoder=text.network, tokenizer=text._tokenizer, unet=found.unet(),
        scheduler=getattr(diffusers, scheduler).from_config(found.schedule | {"skip_prk_steps": True}),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ours(generator: StableDiffusion, sampler: Sampler, wanted: list[Wanted] = WANTED) -> list[Pixels]:
    return [one.pixels for one in draw(generator, wanted, sampler=sampler, active=lambda: True)]


def assert_alike(found: list[Pixels], expected: np.ndarray) -> None:
    assert np.std(expected) > 0.02, "an image, not one colour"
    assert np.abs(np.stack(found) - expected * 255).max() <= 2


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - set(STOCHASTIC)))
def test_images_are_those_of_diffusers_pipeline(stores: Stores, base: Path, scheduler: str) -> None:
    sampler = Sampler(steps=7, guidance_scale=7.5, scheduler=scheduler, negative_prompt="a fundus eye")
    expected = theirs(stores, base, scheduler)(
        CAPTIONS, negative_prompt=["a fundus eye"] * 2, num_inference_steps=7, guidance_scale=7.5,
        latents=torch.stack([_noise(one, SHAPE) for one in WANTED]), output_type="np",
    )  # fmt: skip
    assert_alike(ours(plain(stores, base), sampler), expected.images)


def test_a_base_that_predicts_the_velocity_draws_as_in_diffusers(stores: Stores, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "velocity", prediction="v_prediction")
    expected = theirs(stores, base, "DDIMScheduler")(
        CAPTIONS, num_inference_steps=5, guidance_scale=3.0, output_type="np",
        latents=torch.stack([_noise(one, SHAPE) for one in WANTED]),
    )  # fmt: skip
    sampler = Sampler(steps=5, guidance_scale=3.0, scheduler="DDIMScheduler")
    assert_alike(ours(plain(stores, base), sampler), expected.images)


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_images_from_training_images_are_those_of_diffusers_pipeline(
    stores: Stores, base: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = plain(stores, base, latents=True)
    noise = torch.stack([_noise(one, SHAPE) for one in WANTED])
    module = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img.randn_tensor"
    monkeypatch.setattr(module, lambda shape, **options: noise)
    sampler = Sampler(steps=8, guidance_scale=7.5, scheduler=scheduler, strength=0.5)
    start = generator.begin(WANTED, sampler)
    assert start.images is not None
    expected = theirs(stores, base, scheduler, StableDiffusionImg2ImgPipeline)(
        CAPTIONS, image=start.images, strength=0.5, num_inference_steps=8, guidance_scale=7.5, output_type="np"
    )
    found = ours(generator, sampler)
    assert_alike(found, expected.images)
    assert not np.array_equal(found, ours(generator, replace(sampler, strength=1.0)))


def rows_asked(generator: StableDiffusion, sampler: Sampler) -> list[int]:
    """Rows that mean something, step by step."""
    with torch.inference_mode():
        cohort, found = Cohort(generator, WANTED, sampler), []
        while not cohort.finished:
            found.append(len(cohort.rows().samples))
            step(generator, [cohort], bucket=generator.bucket)
    return found


def test_turbo_guides_the_first_half_alone(stores: Stores, base: Path) -> None:
    generator = plain(stores, base)
    assert rows_asked(generator, Sampler(steps=4)) == [4, 4, 4, 4]
    assert rows_asked(generator, Sampler(steps=4, profile="PROFILE_TURBO")) == [4, 4, 2, 2]
    assert rows_asked(generator, Sampler(steps=3, guidance_scale=1)) == [2, 2, 2]
    full, turbo = (ours(generator, Sampler(steps=4, profile=f"PROFILE_{name}")) for name in ("FULL", "TURBO"))
    assert not np.array_equal(full, turbo)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_image_does_not_depend_on_who_started_with_it(stores: Stores, base: Path, scheduler: str) -> None:
    generator, sampler = plain(stores, base), Sampler(steps=3, guidance_scale=3.0, scheduler=scheduler)
    wanted = [Wanted(CLASSES[index % 2], 0, index) for index in range(generator.bucket)]
    together = ours(generator, sampler, wanted)
    assert np.array_equal(ours(generator, sampler, [wanted[5]])[0], together[5])
    assert np.array_equal(ours(generator, sampler, wanted[4::-1])[::-1], together[:5])
    assert len({one.tobytes() for one in together}) == len(together)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_chance_of_a_step_is_each_images_own(stores: Stores, base: Path, name: str) -> None:
    generator, sampler = plain(stores, base), Sampler(steps=2, scheduler=name)
    wanted = [Wanted("lies", 0, 0), Wanted("lies", 0, 0), Wanted("lies", 0, 1)]
    with torch.inference_mode():
        cohort = Cohort(generator, wanted, sampler)
        first = [one.get_state() for one in cohort._chances["generator"]]
        step(generator, [cohort], bucket=8)
        assert torch.equal(cohort.samples[0], cohort.samples[1])
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], cohort._chances["generator"][0].get_state()), "it goes on from step to step"


def test_one_step_of_strength_is_taken_however_many_there_are(stores: Stores, base: Path) -> None:
    generator = plain(stores, base, latents=True)
    for scheduler in ("DPMSolverMultistepScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler"):
        cohort = Cohort(generator, WANTED, Sampler(steps=1000, strength=0.0001, scheduler=scheduler))
        assert cohort.steps == 1


def test_cohorts_at_different_steps_share_rows(stores: Stores, base: Path) -> None:
    generator, sampler = plain(stores, base), Sampler(steps=3, guidance_scale=2.0)
    late = replace(sampler, steps=5, scheduler="EulerDiscreteScheduler", guidance_scale=1.0)
    with torch.inference_mode():
        first, second = Cohort(generator, WANTED[:1], sampler), Cohort(generator, WANTED[1:], late)
        step(generator, [first], bucket=8)
        while not (first.finished and second.finished):
            step(generator, [one for one in (first, second) if not one.finished], bucket=8)
        drawn = [first.drawn(8)[0].pixels, second.drawn(8)[0].pixels]
    alone = [ours(generator, sampler, WANTED[:1])[0], ours(generator, late, WANTED[1:])[0]]
    assert np.array_equal(drawn, alone)


def test_numbers_that_ran_over_are_told(stores: Stores, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = plain(stores, base)
    noise = generator.begin

    def begin(wanted: Any, sampler: Sampler) -> Any:
        start = noise(wanted, sampler)
        start.noise[0] = float("nan")
        return start

    monkeypatch.setattr(generator, "begin", begin)
    drawn = list(draw(generator, WANTED, sampler=Sampler(steps=2), active=lambda: True))
    assert [one.finite for one in drawn] == [False, True]
