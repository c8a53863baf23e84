from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.conftest import Stores
from tests.shapes import put_version, real_rows
from tests.unit.generation.conftest import CLASSES, IMAGES, World, from_base, loader

from genaug.generation.artifacts import read_record
from genaug.generation.finetune import finetune
from genaug.generation.generators.stable_diffusion.generator import LATENTS, StableDiffusion
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.generation.training.memorization import MemorizationProbe
from genaug.schema.common import Precision
from genaug.schema.generators import Decay, Generator, GridMemorization, Method, TrainedWeights
from genaug.schema.sampling import Sampler
from genaug.schema.wire import to_proto
from genaug.shared.errors import Cancelled, FailedPrecondition, GenaugError, InvalidArgument
from genaug.v1 import generator_pb2
from genaug.vision.images.pixels import decode

SAMPLER = Sampler(steps=3, guidance_scale=7.5)
# Quick to change much: what is learnt in three updates is to be seen.
QUICK: dict[str, Any] = {"learning_rate": 0.05, "decay": Decay.CONSTANT, "ema_decay": 0.0}
PRIOR: dict[str, Any] = {"method": Method.DREAMBOOTH, "dreambooth": {"prior_images": 3, "prior_weight": 0.5}}

Tensors = dict[str, torch.Tensor]


def tensors(world: World, name: str) -> Tensors:
    return safetensors.torch.load(world.stores("generation").get(f"{name}/model.safetensors"))


def record(world: World, name: str) -> Generator:
    return read_record(world.stores("generation"), name)


def learnt(world: World, base: Path, **changes: Any) -> Tensors:
    return tensors(world, world.finetune_base(base, **QUICK | changes))


def equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def assert_close(one: Tensors, other: Tensors) -> None:
    """Two adapters differ by rounding alone: by less than a thousandth of how far they were learnt.

    Sums in another order round otherwise on each instruction set, and Adam makes the least difference of a gradient
    near zero one of a whole update, so single weights say little. Measured as a whole: 8e-6 with AVX2 and without; a
    prior that counts for 1 % more makes 8e-3.
    """
    assert one.keys() == other.keys()

    def norm(tensors: Iterable[torch.Tensor]) -> float:
        return float(torch.cat([tensor.flatten() for tensor in tensors]).norm())

    # These begin at zero.
    learnt = norm(other[key] for key in other if key.endswith("lora_B.weight"))
    assert norm(one[key] - other[key] for key in one) < 1e-3 * learnt


def drawn(world: World, name: str, requests: list[ImageRequest], sampler: Sampler = SAMPLER) -> list[DrawnImage]:
    return list(draw(loader(world.stores).generator(name), requests, sampler=sampler, is_active=lambda: True))


def test_an_adapter_is_learnt_and_draws(world: World, base: Path) -> None:
    name = world.finetune_base(base)
    found = record(world, name)
    assert found.base.startswith("bases/")
    assert found.prompts == "generic@1"
    assert found.captions["lies"] == "a photograph of class lies"
    assert to_proto(generator_pb2.Generator, found).weights_sha256 == found.weights_sha256
    assert all(".lora_" in key and key.startswith("all/unet.") for key in tensors(world, name))
    images = drawn(world, name, [ImageRequest("lies", 0, 0), ImageRequest("stands", 0, 0)])
    assert [one.pixels.shape for one in images] == [(16, 16, 1)] * 2
    assert not np.array_equal(images[0].pixels, images[1].pixels)


def test_only_the_generator_is_left(world: World, base: Path) -> None:
    name = world.finetune_base(base, sample_grids=2, **PRIOR)
    kept = {key.removeprefix(f"{name}/") for key, _ in world.stores("generation").list(f"{name}/")}
    found = record(world, name)
    grids = {grid.object.removeprefix(f"{name}/") for grid in found.sample_grids}
    assert len(grids) == 2
    assert kept == {"generator.json", "config.json", "model.safetensors", *grids}
    assert {decode(world.stores("generation").get(f"{name}/{grid}")).shape for grid in grids} == {(32, 64, 1)}
    assert [grid.update for grid in found.closenesses] == [grid.update for grid in found.sample_grids]


def test_it_learns(world: World, base: Path) -> None:
    changes = {"weights": TrainedWeights.ALL, "learning_rate": 0.01, "min_snr": 0.0, "sample_grids": 0}
    found = record(world, world.finetune_base(base, train_steps=60, batch_size=8, **changes))
    assert len(found.losses) == 20
    assert np.mean(found.losses[-5:]) < 0.9 * np.mean(found.losses[:5])


def clear(world: World, name: str) -> None:
    for key in [key for key, _ in world.stores("finetune").list(f"{name}/")]:
        world.stores("finetune").delete(key)


def killed_and_resumed(
    world: World, base: Path, changes: dict[str, Any], *, at: int, error: BaseException
) -> tuple[Tensors, list[tuple[int, str]]]:
    """What is learnt where the first attempt ends by `error` at an update; what the second said."""
    inputs = from_base(base, **changes)
    store, name = world.stores("finetune"), inputs.result

    def end(done: int, total: int, unit: str, note: str = "", /) -> None:
        if done == at:
            raise error

    with pytest.raises(type(error)):
        finetune(inputs, store, end, device="cpu")
    said: list[tuple[int, str]] = []

    def report(done: int, total: int, unit: str, note: str = "", /) -> None:
        said.append((done, note))

    assert finetune(inputs, store, report, device="cpu") == name
    return tensors(world, name), said


@pytest.mark.parametrize("changes", [{"sample_grids": 2, "horizontal_flip": True}, PRIOR, {"text_encoder": True}])
def test_a_cancelled_training_goes_on_to_the_same_weights(world: World, base: Path, changes: dict[str, Any]) -> None:
    changes = QUICK | {"train_steps": 4} | changes
    name = world.finetune_base(base, **changes)
    whole, before = tensors(world, name), record(world, name)
    clear(world, name)
    resumed, said = killed_and_resumed(world, base, changes, at=2, error=Cancelled("stop"))
    assert equal(whole, resumed)
    assert [done for done, _ in said if done] == [3, 4], "nothing is done twice"
    assert not any("prior" in note for _, note in said), "the prior's images are drawn once"
    after = record(world, name)
    fields = ("losses", "sample_grids", "closenesses")
    assert all(getattr(after, key) == getattr(before, key) for key in fields)
    assert not any("checkpoint" in key or "prior" in key for key, _ in world.stores("generation").list(f"{name}/"))


class Killed(BaseException):
    """As kill -9: nothing runs after it."""


def test_a_killed_training_goes_on_from_its_last_checkpoint(
    world: World, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genaug.generation.training.loop._CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr("genaug.generation.training.loop._CHECKPOINT_SHARE", 0.0)
    changes = {"train_steps": 4, "sample_grids": 0, **PRIOR}
    name = world.finetune_base(base, **changes)
    whole = tensors(world, name)
    clear(world, name)
    resumed, said = killed_and_resumed(world, base, changes, at=3, error=Killed())
    assert equal(whole, resumed)
    assert [done for done, _ in said if done] == [4]


def test_parts_of_a_batch_are_learnt_as_the_whole(world: World, base: Path) -> None:
    changes = {"sample_grids": 0, "learning_rate": 0.005, **PRIOR}
    plain = learnt(world, base, **changes)
    for parts in (2, 4):
        assert_close(learnt(world, base, accumulation=parts, **changes), plain)


def test_activations_that_are_computed_twice_change_nothing(world: World, base: Path) -> None:
    names = [
        world.finetune_base(base, sample_grids=0, gradient_checkpointing=twice, **QUICK) for twice in (False, True)
    ]
    losses = [record(world, name).losses for name in names]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert_close(*[tensors(world, name) for name in names])


def set_memorized(monkeypatch: pytest.MonkeyPatch, memorized: list[float]) -> None:
    """Set the memorized share of each grid."""
    answers = iter(memorized)
    monkeypatch.setattr(
        MemorizationProbe,
        "measure",
        lambda self, samples, classes, *, update: GridMemorization(update=update, memorized=next(answers)),
    )


def test_memorization_stops_training_and_keeps_the_weights_of_the_previous_grid(
    world: World, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = learnt(world, base, train_steps=2, sample_grids=1, memorized=1.0)
    set_memorized(monkeypatch, [0.25, 0.3])
    name = world.finetune_base(base, train_steps=9, sample_grids=4, memorized=0.25, **QUICK)
    found = record(world, name)
    assert found.stopped_at == 4
    assert [grid.update for grid in found.sample_grids] == [2, 4]
    assert equal(tensors(world, name), early)


def test_a_training_that_was_stopped_stays_so_when_it_is_resumed(
    world: World, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = QUICK | {"train_steps": 9, "sample_grids": 4, "memorized": 0.25}
    set_memorized(monkeypatch, [0.0, 1.0])
    whole = learnt(world, base, **changes)
    name = world.finetune_base(base, **changes)
    clear(world, name)
    set_memorized(monkeypatch, [0.0, 1.0])
    resumed, said = killed_and_resumed(world, base, changes, at=4, error=Cancelled("stop"))
    assert equal(whole, resumed)
    assert not [done for done, _ in said if done]
    assert record(world, name).stopped_at == 4


def test_training_without_memorization_runs_to_its_end(world: World, base: Path) -> None:
    assert record(world, world.finetune_base(base, memorized=1.0)).stopped_at == 0


def test_the_text_encoder_learns_too(world: World, base: Path) -> None:
    name = world.finetune_base(base, sample_grids=0, text_encoder=True, **QUICK)
    found = tensors(world, name)
    ups = [value for key, value in found.items() if key.startswith("all/text_encoder.") and ".lora_B" in key]
    # Its two layers' four projections; the last of them at least is told something.
    assert len(ups) == 8
    assert sum(bool(one.any()) for one in ups) >= 4
    assert all(one.pixels.std() > 0 for one in drawn(world, name, [ImageRequest("lies", 0, 0)]))


@pytest.mark.parametrize("text", [False, True])
def test_all_weights_may_learn(world: World, base: Path, text: bool) -> None:
    changes = {"weights": TrainedWeights.ALL, "text_encoder": text, "decay": Decay.CONSTANT, "ema_decay": 0.0}
    name = world.finetune_base(base, learning_rate=0.01, **changes)
    found = tensors(world, name)
    assert not any(".lora_" in key for key in found)
    assert any(key.startswith("all/text_encoder.") for key in found) == text
    generator = loader(world.stores).generator(name)
    assert isinstance(generator, StableDiffusion)
    own = generator._base.unet().state_dict()
    assert all(
        not torch.equal(found[f"all/unet.{key}"], one) for key, one in own.items() if key.endswith("to_q.weight")
    )
    assert len(drawn(world, name, [ImageRequest("lies", 0, 0)])) == 1


def test_held_out_images_are_measured_and_not_learnt(stores: Stores, base: Path) -> None:
    store = stores("assembly")
    put_version(store, real_rows(store, {"lies": 25, "stands": 30}))
    world = World(stores, [])
    found = record(world, world.finetune_base(base, sample_grids=0, keep_latents=True))
    assert [entry.count for entry in found.training] == [24, 28]
    assert [entry.count for entry in found.held_out] == [1, 2]
    assert len(found.held_out_losses) == len(found.losses) == 3
    assert len(tensors(world, found.name)[LATENTS]) == 52


def test_each_class_may_have_an_adapter_of_its_own(world: World, base: Path) -> None:
    dreambooth = {"per_class": True, "prior_images": 0}
    name = world.finetune_base(base, method=Method.DREAMBOOTH, dreambooth=dreambooth, **QUICK)
    found, made = record(world, name), tensors(world, name)
    assert {key[:2] for key in made} == {"0/", "1/"}
    assert not any(torch.equal(one, made["1" + key[1:]]) for key, one in made.items() if key[0] == "0")
    assert found.captions == {one: f"sks a photograph of class {one}" for one in CLASSES}
    assert [grid.object.rsplit("/", 1)[1] for grid in found.sample_grids] == ["0-3.png", "1-3.png"]
    assert world.reports[-1] == (6, 6, "updates")
    assert [done for done, _, _ in world.reports] == sorted(done for done, _, _ in world.reports)
    assert len(drawn(world, name, [ImageRequest(one, 0, 0) for one in CLASSES])) == 2


def test_what_one_class_learns_does_not_depend_on_the_others(world: World, base: Path) -> None:
    dreambooth = {"per_class": True, "prior_images": 0}
    changes = QUICK | {"method": Method.DREAMBOOTH, "dreambooth": dreambooth, "sample_grids": 0}
    both = learnt(world, base, **changes)
    alone = tensors(world, world.finetune_base(base, classes=("lies",), **changes))
    assert equal(alone, {key: one for key, one in both.items() if key.startswith("0/")})


def test_dreambooths_rare_word_stands_before_each_caption(world: World, base: Path) -> None:
    found = record(world, world.finetune_base(base, sample_grids=0, **PRIOR))
    assert found.captions == {
        "lies": "sks0 a photograph of class lies",
        "stands": "sks1 a photograph of class stands",
    }


def test_the_prior_is_learnt_beside_the_images(world: World, base: Path) -> None:
    none = {"method": Method.DREAMBOOTH, "dreambooth": {"prior_images": 0}}
    heavy = {"method": Method.DREAMBOOTH, "dreambooth": {"prior_images": 3, "prior_weight": 50.0}}
    found = [learnt(world, base, sample_grids=0, **changes) for changes in (none, PRIOR, heavy)]
    assert not equal(found[0], found[1])
    assert not equal(found[1], found[2])


def test_training_latents_travel_along_where_that_is_wanted(world: World, base: Path) -> None:
    name = world.finetune_base(base, sample_grids=0, keep_latents=True)
    latents = tensors(world, name)[LATENTS]
    assert (latents.shape, latents.dtype) == ((2 * IMAGES, 4, 8, 8), torch.float16)
    [one] = drawn(world, name, [ImageRequest("lies", 0, 0)], Sampler(steps=4, strength=0.5))
    assert one.parent_ids[0] in {row.image_id for row in world.rows if row.class_name == "lies"}


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": Precision.BFLOAT16},
        {"weights": TrainedWeights.ALL, "precision": Precision.BFLOAT16, "text_encoder": True},
        {"channels": 3, "image_size": 32},
        {"lora": {"rank": 2, "alpha": 8.0, "targets": ["conv1", "to_q"]}},
        {"min_snr": 0.0},
    ],
)
def test_every_way_to_train_draws(world: World, base: Path, changes: dict[str, Any]) -> None:
    name = world.finetune_base(base, train_steps=2, **changes)
    sampler = Sampler(steps=2, precision=changes.get("precision", Precision.FLOAT32))
    [one] = drawn(world, name, [ImageRequest("stands", 0, 0)], sampler)
    size = changes.get("image_size", 16)
    assert one.pixels.shape == (size, size, changes.get("channels", 1))
    assert one.finite


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"lora": {"targets": ["nothing"]}},
            r"stable_diffusion\.lora\.targets: no layer's name ends in any of nothing",
        ),
        ({"image_size": 18}, "18 is not a multiple of 4, which bases/"),
        ({"prompts": "disease-specific"}, "has no caption of class lies, stands"),
        ({"captions": {"leans": "x"}}, "'leans' is none of the classes"),
    ],
)
def test_what_cannot_be_learnt_is_refused(world: World, base: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        world.finetune_base(base, **changes)


@pytest.mark.parametrize(
    ("base", "words"),
    [("/nowhere/at/all", "no directory where the fine-tuning runs"), ("bases/" + "0" * 32, "no such base")],
)
def test_a_base_that_cannot_be_had_is_refused(
    world: World, base: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GenaugError, match=words) as caught:
        world.finetune_base(base)
    assert caught.value.reason == "BASE_NOT_FOUND"


def test_an_image_that_the_networks_cannot_halve_is_refused_by_their_multiple(world: World, tmp_path: Path) -> None:
    from tests.tiny_base import write_tiny_base

    deep = write_tiny_base(tmp_path / "deep")
    config = deep / "unet/config.json"
    config.write_text(config.read_text().replace('"block_out_channels": [', '"block_out_channels": [\n 8, 8,'))
    with pytest.raises(InvalidArgument, match="24 is not a multiple of 16") as caught:
        world.finetune_base(deep, image_size=24)
    assert caught.value.reason == "BAD_SIZE"


def test_without_its_package_the_optimiser_of_8_bits_is_refused(
    world: World, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    with pytest.raises(FailedPrecondition, match="pip install bitsandbytes") as caught:
        world.finetune_base(base, eight_bit_adam=True)
    assert caught.value.reason == "NO_EIGHT_BIT_ADAM"
