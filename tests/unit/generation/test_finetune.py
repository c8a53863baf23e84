from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.shapes import put_version, real_rows
from tests.unit.generation.conftest import IMAGES, World, inputs

from genaug.generation.artifacts import read_artifact, read_record
from genaug.generation.finetune import finetune, hold_out
from genaug.generation.generators.class_conditional.generator import ClassConditional, Config
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.common import Precision
from genaug.schema.generators import Generator, Prediction
from genaug.schema.sampling import Sampler
from genaug.schema.wire import to_proto
from genaug.shared.digests import sha256
from genaug.shared.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.manifest import Row
from genaug.v1 import generator_pb2
from genaug.vision.images.pixels import decode

KINDS = ["class_conditional", "transforms"]


def record(world: World, name: str) -> Generator:
    return read_record(world.stores("generation"), name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_is_named_by_its_inputs_and_written_whole(world: World, kind: str) -> None:
    name = world.finetune(kind=kind)
    job = inputs(kind)
    assert name == job.result
    store, found = world.stores("generation"), record(world, name)
    grids = [grid.object for grid in found.sample_grids]
    assert len(grids) == (kind == "class_conditional")
    assert {key for key, _ in store.list(f"{name}/")} == {
        *(f"{name}/{part}" for part in ("model.safetensors", "config.json", "generator.json")),
        *grids,
    }, "no checkpoint is left"
    message = to_proto(generator_pb2.Generator, found)
    assert [(entry.class_name, entry.count) for entry in message.training] == [("lies", IMAGES), ("stands", IMAGES)]
    assert (message.image_size, message.channels, list(message.classes)) == (8, 1, ["lies", "stands"])
    assert (found.spec, found.dataset_version) == (job.generator, job.dataset_version)
    assert found.weights_sha256 == sha256(store.get(f"{name}/model.safetensors"))
    assert store.get_json(f"{name}/config.json")["kind"] == f"KIND_{kind.upper()}"


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
    name = inputs().result

    class Killed(Exception):
        pass

    def kill(done: int, total: int, unit: str, note: str = "", /) -> None:
        raise Killed

    with pytest.raises(Killed):
        finetune(inputs(), world.stores("finetune"), kill, device="cpu")
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
    losses = record(world, name).losses
    assert len(losses) == 20
    assert np.mean(losses[-2:]) < 0.7 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_with_one_image_is_refused(world: World, kind: str) -> None:
    with pytest.raises(FailedPrecondition, match="leans has 1, bends has 0") as error:
        world.finetune(kind, classes=("lies", "leans", "bends"))
    assert error.value.reason == "TOO_FEW_IMAGES"


@pytest.mark.parametrize("classes", [(), ("lies", "lies")])
def test_classes_must_be_named_once(world: World, classes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="classes"):
        world.finetune(classes=classes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"patch_size": 4}, "patch_size: 4 does not cut 8 places"),
        ({"image_size": 128, "autoencoder": "/nowhere"}, "taef2_encoder"),
    ],
)
def test_settings_that_do_not_suit_the_images_are_refused(world: World, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        world.finetune(**changes)


def test_an_unknown_version_is_refused(world: World) -> None:
    with pytest.raises(NotFound):
        world.run(inputs().replace(dataset_version="datasets/shapes/versions/" + "0" * 32))


def row(number: int, name: str, group: str) -> Row:
    return Row(f"{number:032x}", "", "", "", name, "train", group_id=group)


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.integers(0, 60), min_size=1, max_size=60), min_size=1),
    st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    st.integers(0, 3),
)
@hypothesis_settings(max_examples=60)
def test_whole_subjects_are_held_out_and_never_too_many(classes, share, seed) -> None:
    rows = [
        row(number, name, f"g{group}")
        for number, (name, group) in enumerate((n, g) for n, groups in classes.items() for g in groups)
    ]
    seen, held_out = hold_out(rows, share=share, seed=seed)
    assert sorted(r.image_id for r in seen + held_out) == sorted(r.image_id for r in rows)
    assert not {r.group_id for r in seen} & {r.group_id for r in held_out}
    assert hold_out(rows[::-1], share=share, seed=seed)[0] == seen[::-1], "whatever the order"
    for name, groups in classes.items():
        count = len(set(groups))
        left = len({r.group_id for r in seen if r.class_name == name})
        rare = {g for groups in classes.values() if len(set(groups)) < 20 for g in groups}
        if share and count >= 20:
            due = min(max(1, round(share * count)), len(set(groups) - rare))
            assert left <= count - due
        if count < 20:
            assert left == count, "a rare class loses nobody, whatever other class they are of"
    if not share or all(len(set(groups)) < 20 for groups in classes.values()):
        assert not held_out


def test_held_out_images_are_not_trained_on_and_their_loss_is_told(stores) -> None:
    store = stores("assembly")
    put_version(store, real_rows(store, {"lies": 25, "stands": 30}))
    world = World(stores, [])
    found = record(world, world.finetune(train_steps=5))
    assert [entry.count for entry in found.training] == [24, 28]
    assert [entry.count for entry in found.held_out] == [1, 2]
    assert len(found.held_out_losses) == len(found.losses) == 5
    found = record(world, world.finetune(train_steps=5, held_out=0))
    assert [entry.count for entry in found.training] == [25, 30]
    assert not found.held_out


def test_sample_grids_show_every_class_and_disturb_nothing(world: World) -> None:
    plain = world.finetune(train_steps=8, sample_grids=0)
    name = world.finetune(train_steps=8, sample_grids=2)
    store = world.stores("generation")
    grids = record(world, name).sample_grids
    assert [grid.update for grid in grids] == [4, 8]
    shown = [decode(store.get(grid.object)) for grid in grids]
    assert {image.shape for image in shown} == {(16, 32, 1)}, "a row of four images of 8 pixels for each of two classes"
    assert not np.array_equal(*shown)
    first, second = weights(world, plain), weights(world, name)
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_every_grid_that_is_listed_is_there(world: World) -> None:
    name = world.finetune(train_steps=1, sample_grids=4)
    store = world.stores("generation")
    [grid] = record(world, name).sample_grids
    assert grid.update == 1
    assert store.exists(grid.object)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_cancelled_training_goes_on_to_the_same_weights(world: World, at: int) -> None:
    changes = {"train_steps": 8, "sample_grids": 2, "horizontal_flip": True, "prediction": Prediction.EPSILON}
    whole = weights(world, world.finetune(**changes))
    told: list[int] = []

    def cancel(done: int, total: int, unit: str, note: str = "", /) -> None:
        told.append(done)
        if done == at:
            raise Cancelled("told to end", reason="CANCELLED")

    job = inputs(**changes)
    name = job.result
    store = world.stores("finetune")
    for key in [key for key, _ in store.list(f"{name}/")]:
        store.delete(key)
    with pytest.raises(Cancelled):
        finetune(job, store, cancel, device="cpu")
    assert told == list(range(1, at + 1)), "within one update"
    assert [key for key, _ in store.list(f"{name}/") if not key.startswith(f"{name}/grids/")] == [
        f"{name}/checkpoint.safetensors"
    ]
    world.reports.clear()
    assert finetune(job, store, world.report, device="cpu") == name
    assert [done for done, _, _ in world.reports] == list(range(at + 1, 9)), "nothing is done twice"
    resumed = weights(world, name)
    assert all(np.array_equal(whole[key], resumed[key]) for key in whole)


def test_a_killed_training_goes_on_from_its_last_checkpoint(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genaug.generation.training.loop._CHECKPOINT_EVERY", 0.0)
    monkeypatch.setattr("genaug.generation.training.loop._CHECKPOINT_SHARE", 0.0)
    job = inputs(train_steps=6)
    whole = weights(world, world.run(job))
    name, store = job.result, world.stores("finetune")
    for key in [key for key, _ in store.list(f"{name}/")]:
        store.delete(key)

    class Killed(BaseException):
        """As kill -9: nothing runs after it."""

    def kill(done: int, total: int, unit: str, note: str = "", /) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        finetune(job, store, kill, device="cpu")
    world.reports.clear()
    finetune(job, store, world.report, device="cpu")
    assert world.reports[0] == (5, 6, "updates")
    resumed = weights(world, name)
    assert all(np.array_equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction": Prediction.EPSILON},
        {"prediction": Prediction.IMAGE},
        {"precision": Precision.BFLOAT16},
        {"patch_size": 1},
        {"patch_size": 2, "image_size": 16},
        {"patch_size": 4, "image_size": 16, "channels": 3},
        {"horizontal_flip": True, "ema_decay": 0.9},
    ],
)
def test_every_way_to_train_draws(world: World, changes: dict[str, Any]) -> None:
    name = world.finetune(train_steps=4, **changes)
    artifact = read_artifact(world.stores("generation"), name)
    generator = ClassConditional.load(artifact, device=torch.device("cpu"))
    [drawn] = draw(generator, [ImageRequest("lies", 0, 0)], sampler=Sampler(steps=3), is_active=lambda: True, bucket=4)
    size = changes.get("image_size", 8)
    assert drawn.pixels.shape == (size, size, changes.get("channels", 1))
    named = {Prediction.EPSILON: "epsilon", Prediction.IMAGE: "sample"}
    prediction_type = artifact.parse_config(Config).schedule["prediction_type"]
    assert prediction_type == named.get(changes.get("prediction", Prediction.V), "v_prediction")


def test_transforms_take_photographs_as_large_as_those_drawn_in_latents(world: World) -> None:
    """A traditional scenario stands beside images of 128 pixels; nothing of it is drawn in pixels by a network."""
    assert record(world, world.finetune("transforms", image_size=128)).image_size == 128
