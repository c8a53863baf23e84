from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.unit.generation.conftest import World

from genaug.generation.artifacts import Artifact, read_artifact
from genaug.generation.diffusion.schedulers import signal_left
from genaug.generation.generators.class_conditional.generator import (
    ClassConditional,
    Config,
    build_network,
    fitting_threads,
    from_places,
    new_config,
    noise_of,
    to_places,
)
from genaug.generation.generators.pixels import to_images, to_pixels
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.schema.generators import ClassConditionalSpec
from genaug.schema.sampling import Sampler
from genaug.shared.errors import Cancelled, FailedPrecondition

CPU = torch.device("cpu")


def config(image_size: int = 8, channels: int = 1) -> Config:
    settings = ClassConditionalSpec(base_channels=8)
    return new_config(settings, classes=["a", "b"], image_size=image_size, channels=channels)


@pytest.fixture(scope="module")
def generator() -> ClassConditional:
    torch.manual_seed(0)
    return ClassConditional("generators/" + "0" * 32, config(), build_network(config()), device=CPU)


def make(generator: ClassConditional, requests: list[ImageRequest], sampler: Sampler) -> list[DrawnImage]:
    return list(draw(generator, requests, sampler=sampler, is_active=lambda: True))


@pytest.mark.parametrize("size", range(8, 65, 8))
@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_fits_every_allowed_size(size: int, channels: int) -> None:
    made = config(size, channels)
    image = to_places(made, torch.zeros(1, channels, size, size))
    with torch.inference_mode():
        predicted = build_network(made)(image, 5, class_labels=torch.tensor([4])).sample
    assert predicted.shape == image.shape


@pytest.mark.parametrize(("size", "widths"), [(8, [8, 8]), (16, [8, 16, 16]), (64, [8, 16, 16, 32])])
def test_larger_images_have_more_levels(size: int, widths: list[int]) -> None:
    assert config(size).network["block_out_channels"] == widths


def test_threads_are_left_as_they_were_found() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with fitting_threads(config(8)):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with fitting_threads(config(64)):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_each_class_has_a_label_for_jittered_images_and_all_share_the_null_class() -> None:
    made = config()
    assert (made.jittered, made.null_class, made.network["num_class_embeds"]) == (2, 4, 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_the_way_to_the_network_and_back(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, channels), dtype=np.uint8)
    made = config(16, channels)
    assert np.array_equal(to_pixels(from_places(made, to_places(made, to_images(pixels))), channels=channels), pixels)


def test_noise_is_standard_and_depends_on_seed_class_and_index_alone() -> None:
    made = config(64)
    noise = noise_of(made, ImageRequest("a", 0, 0))
    assert torch.equal(noise, noise_of(made, ImageRequest("a", 0, 0)))
    assert abs(float(noise.mean())) < 0.1
    assert abs(float(noise.std()) - 1) < 0.1
    for other in (ImageRequest("b", 0, 0), ImageRequest("a", 1, 0), ImageRequest("a", 0, 1)):
        assert abs(float((noise * noise_of(made, other)).mean())) < 0.1


def test_an_image_does_not_depend_on_who_shares_its_batch(generator: ClassConditional) -> None:
    sampler = Sampler(steps=5)
    requests = [ImageRequest("ab"[index % 2], 0, index) for index in range(16)]
    together = make(generator, requests, sampler)
    [alone] = make(generator, [requests[7]], sampler)
    assert together[7].request == alone.request
    assert np.array_equal(together[7].pixels, alone.pixels)
    assert np.array_equal(make(generator, requests[::-1], sampler)[8].pixels, alone.pixels)
    assert len({one.pixels.tobytes() for one in together}) == 16


def test_a_guidance_of_one_needs_half_the_rows(generator: ClassConditional) -> None:
    shapes: list[int] = []
    hook = generator._network.register_forward_hook(lambda module, inputs, output: shapes.append(len(inputs[0])))
    requests = [ImageRequest("a", 0, index) for index in range(32)]
    make(generator, requests, Sampler(steps=2, guidance_scale=1))
    make(generator, requests, Sampler(steps=1, guidance_scale=2))
    hook.remove()
    assert shapes == [32, 32, 32, 32], "two steps of 32 rows; one of 64, in one shape"


@pytest.mark.parametrize("steps", [1, 2, 25, 999, 1000])
def test_every_number_of_steps_solves_a_known_diffusion(steps: int) -> None:
    """A network that knows the one image there is must draw it, whatever the number of steps."""
    made = config()
    image = torch.linspace(-0.9, 0.9, 64).reshape(1, 1, 8, 8)
    places = to_places(made, image)
    keep = signal_left(made.schedule)

    class Oracle(torch.nn.Module):
        def forward(self, sample: torch.Tensor, time: torch.Tensor, class_labels: torch.Tensor) -> object:
            kept = keep[time][:, None, None, None]
            signal, spread = kept.sqrt(), (1 - kept).sqrt()
            noise = (sample - signal * places) / spread
            return type("Output", (), {"sample": signal * noise - spread * places})

    [drawn] = make(ClassConditional("g", made, Oracle(), device=CPU), [ImageRequest("a", 0, 0)], Sampler(steps=steps))
    assert np.abs(drawn.pixels.astype(int) - to_pixels(image, channels=1)[0]).max() <= 1


@pytest.mark.parametrize("asked", [1, 3])
def test_cancelling_stops_within_one_step(generator: ClassConditional, asked: int) -> None:
    answers = iter([True] * (asked - 1) + [False])
    steps: list[int] = []
    hook = generator._network.register_forward_hook(lambda *_: steps.append(1))
    with pytest.raises(Cancelled):
        list(draw(generator, [ImageRequest("a", 0, 0)], sampler=Sampler(), is_active=lambda: next(answers)))
    hook.remove()
    assert len(steps) == asked - 1


def test_weights_that_are_not_the_networks_are_refused(world: World) -> None:
    artifact = read_artifact(world.stores("generation"), world.finetune())
    wider = world.finetune(base_channels=16)
    strange = replace(artifact, weights=world.stores("generation").get(f"{wider}/model.safetensors"))
    with pytest.raises(FailedPrecondition, match=r"of another shape: class_embedding\.weight"):
        ClassConditional.load(strange, device=CPU)
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        ClassConditional.load(replace(artifact, weights=b"x" * 100), device=CPU)


def test_a_loaded_generator_draws_as_it_did(world: World) -> None:
    artifact: Artifact = read_artifact(world.stores("generation"), world.finetune())
    load: Callable[[], ClassConditional] = lambda: ClassConditional.load(artifact, device=CPU)  # noqa: E731
    [one], [other] = (make(load(), [ImageRequest("lies", 0, 0)], Sampler(steps=2)) for _ in range(2))
    assert np.array_equal(one.pixels, other.pixels)
