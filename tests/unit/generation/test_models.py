from __future__ import annotations

import pytest
from tests.unit.generation.conftest import World

from genaug.generation.models import Models
from genaug.generation.receipts import Sampler, Wanted
from genaug.shared.errors import Cancelled, FailedPrecondition, NotFound


@pytest.fixture
def models(world: World) -> Models:
    return Models(world.stores("generation"), device="cpu", kept=2)


def test_a_generator_is_loaded_once(world: World, models: Models) -> None:
    name = world.finetune()
    assert models.load(name) is models.load(name)


def test_the_one_that_was_used_least_lately_is_forgotten(world: World, models: Models) -> None:
    names = [world.finetune(kind="KIND_TRANSFORMS", seed=seed) for seed in range(3)]
    first, second = models.load(names[0]), models.load(names[1])
    assert models.load(names[0]) is first
    models.load(names[2])
    assert models.load(names[0]) is first
    assert models.load(names[1]) is not second


def test_errors_reach_the_caller_and_the_thread_lives_on(world: World, models: Models) -> None:
    with pytest.raises(NotFound):
        models.load("generators/" + "0" * 32)
    name = world.finetune(kind="KIND_TRANSFORMS")
    generator = models.load(name)
    with pytest.raises(Cancelled):
        list(models.draw(generator, [Wanted("lies", 0, 0)], sampler=Sampler(), active=lambda: False))
    assert len(list(models.draw(generator, [Wanted("lies", 0, 0)], sampler=Sampler(), active=lambda: True))) == 1


def test_an_unknown_kind_is_refused(world: World, models: Models) -> None:
    store, name = world.stores("finetune"), "generators/" + "0" * 32
    facts = {"classes": ["a"], "image_size": 8, "channels": 1}
    store.put_new(f"{name}/model.safetensors", b"")
    store.put_new_json(f"{name}/config.json", {**facts, "kind": "KIND_OF_TOMORROW"})
    store.put_new_json(f"{name}/generator.json", facts)
    with pytest.raises(FailedPrecondition, match="KIND_OF_TOMORROW"):
        models.load(name)


def test_a_device_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(FailedPrecondition, match="device"):
        Models(world.stores("generation"), device="cuda:99")


def test_a_slow_reader_holds_up_nobody_else(world: World, models: Models) -> None:
    generator = models.load(world.finetune(kind="KIND_TRANSFORMS"))
    many = [Wanted("lies", 0, index) for index in range(10 * generator.bucket)]
    slow = models.draw(generator, many, sampler=Sampler(), active=lambda: True)
    next(slow)
    # The reader of the first call has gone for coffee.
    quick = models.draw(generator, many[:1], sampler=Sampler(), active=lambda: True)
    assert len(list(quick)) == 1
    assert len(list(slow)) == len(many) - 1
