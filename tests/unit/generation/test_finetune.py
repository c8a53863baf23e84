from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from tests.unit.generation.conftest import IMAGES, World

from genaug.generation.finetune import TrainingSet, _Batches, finetune, jitter
from genaug.generation.generators.class_conditional import build_scheduler, new_config
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.protojson import from_dict, to_dict
from genaug.shared.requests import generator_name
from genaug.v1 import generator_pb2

KINDS = ["KIND_CLASS_CONDITIONAL", "KIND_TRANSFORMS"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_is_named_by_its_inputs_and_written_whole(world: World, kind: str) -> None:
    name = world.finetune(kind=kind)
    assert name == generator_name(world.inputs(kind=kind))
    store = world.stores("generation")
    assert {key for key, _ in store.list(f"{name}/")} == {
        f"{name}/{part}" for part in ("model.safetensors", "config.json", "generator.json")
    }
    record = store.get_json(f"{name}/generator.json")
    message = from_dict(generator_pb2.Generator, record)
    assert to_dict(message).keys() >= record.keys() - {"losses"}
    assert [(entry.class_name, entry.count) for entry in message.training] == [("lies", IMAGES), ("stands", IMAGES)]
    assert (message.image_size, message.channels, list(message.classes)) == (8, 1, ["lies", "stands"])
    assert "channels" not in record["spec"]
    assert store.get_json(f"{name}/config.json")["kind"] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_not_made_again(world: World, kind: str) -> None:
    world.finetune(kind=kind)
    world.reports.clear()
    world.finetune(kind=kind)
    assert world.reports == []


def test_progress_is_told_at_each_update(world: World) -> None:
    world.finetune(train_steps=3)
    assert world.reports == [(1, 3, "updates"), (2, 3, "updates"), (3, 3, "updates")]


def test_killed_before_the_record_it_runs_again(world: World) -> None:
    """What a killed attempt left is completed, not trusted."""
    name = generator_name(world.inputs())

    class Killed(Exception):
        pass

    def kill(done: int, total: int, unit: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        finetune(world.inputs(), world.stores("finetune"), kill, device="cpu")
    assert not world.stores("generation").exists(f"{name}/generator.json")
    world.finetune()
    assert world.stores("generation").exists(f"{name}/generator.json")


def weights(world: World, name: str) -> dict[str, Any]:
    return safetensors.numpy.load(world.stores("generation").get(f"{name}/model.safetensors"))


def test_the_same_inputs_give_the_same_weights_whatever_torch_did_before(world: World) -> None:
    name = world.finetune()
    first = weights(world, name)
    for part in ("generator.json", "config.json", "model.safetensors"):
        world.stores("finetune").delete(f"{name}/{part}")
    torch.rand(5)
    before = torch.random.get_rng_state()
    world.finetune()
    assert torch.equal(before, torch.random.get_rng_state())
    second = weights(world, name)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_another_seed_gives_other_weights(world: World) -> None:
    first, second = weights(world, world.finetune()), weights(world, world.finetune(seed=1))
    assert not np.array_equal(first["conv_in.weight"], second["conv_in.weight"])


def test_it_learns(world: World) -> None:
    name = world.finetune(train_steps=150, batch_size=16, learning_rate=0.01)
    losses = world.stores("generation").get_json(f"{name}/generator.json")["losses"]
    assert len(losses) == 50
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_with_one_image_is_refused(world: World, kind: str) -> None:
    inputs = world.inputs(classes=("lies", "leans", "bends"), kind=kind)
    with pytest.raises(FailedPrecondition, match="leans has 1, bends has 0") as error:
        finetune(inputs, world.stores("finetune"), world.report, device="cpu")
    assert error.value.reason == "TOO_FEW_IMAGES"


@pytest.mark.parametrize("classes", [(), ("lies", "lies")])
def test_classes_must_be_named_once(world: World, classes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="classes"):
        finetune(world.inputs(classes=classes), world.stores("finetune"), world.report, device="cpu")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kind": "KIND_MAGIC"}, "KIND_MAGIC"),
        *[({"image_size": size}, "multiple of 8") for size in (0, 4, 12, 72)],
        ({"kind": "KIND_TRANSFORMS", "image_size": 12}, "image_size"),
        ({"kind": "KIND_TRANSFORMS", "transforms": {"shift": 2.0}}, "shift"),
        ({"channels": 2}, "channels"),
        ({"train_steps": 0}, "train_steps"),
        ({"batch_size": -1}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"base_channels": 9}, "base_channels"),
    ],
)
def test_a_specification_out_of_range_is_refused(world: World, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        world.finetune(**changes)


def test_an_unknown_version_is_refused(world: World) -> None:
    inputs = {**world.inputs(), "dataset_version": "datasets/shapes/versions/" + "0" * 32}
    with pytest.raises(NotFound):
        finetune(inputs, world.stores("finetune"), world.report, device="cpu")


def test_jitter_moves_an_image_by_a_little() -> None:
    images = torch.full((64, 1, 32, 32), -1.0)
    images[:, :, 14:18, 14:18] = 1
    moved = jitter(images, source=torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert float(moved.abs().max()) <= 1
    bright = (moved[:, 0] + 1) / 2
    places = torch.arange(32.0)
    centres = (bright.sum(1) * places).sum(1) / bright.sum((1, 2))
    assert 1 < float((centres - 15.5).abs().max()) < 0.06 * 32 + 0.5


def test_batches_are_balanced_label_what_was_moved_and_withhold_some_classes() -> None:
    """99 images of one class beside 1 of the other: each is shown as often."""
    config = new_config(classes=["a", "b"], image_size=8, channels=1, base_channels=8)
    pixels = np.zeros((100, 8, 8, 1), np.uint8)
    pixels[0] = 255
    training = TrainingSet([""] * 100, pixels, np.array([1] + [0] * 99))
    batches = _Batches(config, training, size=4000, seed=0, device=torch.device("cpu"))
    noisy, times, labels, velocity = batches.draw()
    shares = torch.bincount(labels, minlength=5) / 4000
    assert shares[:4].tolist() == pytest.approx([0.225] * 4, abs=0.03)
    assert float(shares[4]) == pytest.approx(0.1, abs=0.02)
    keep = build_scheduler(config).alphas_cumprod[times][:, None, None, None]
    images = keep.sqrt() * noisy - (1 - keep).sqrt() * velocity
    known = labels < 4
    assert torch.allclose(images[known].mean((1, 2, 3)), (labels[known] % 2) * 2.0 - 1, atol=0.01)
