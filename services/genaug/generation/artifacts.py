"""What a fine-tuned generator is in the store: config.json, model.safetensors, and generator.json, written last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store


@dataclass(frozen=True)
class Artefact:
    """The three objects of a generator."""

    name: str
    """"generators/{digest}"."""
    record: dict[str, Any]
    """The message `Generator` as JSON."""
    config: dict[str, Any]
    """What the weights do not say."""
    weights: bytes
    """safetensors."""


def read_record(store: Store, name: str) -> dict[str, Any]:
    """The message `Generator` of `name` as JSON.

    Raises:
        NotFound: there is none, or it is not finished.
    """
    try:
        record: dict[str, Any] = store.get_json(f"{name}/generator.json")
    except NotFound:
        raise NotFound(
            f"{name}: no such generator, or its fine-tuning has not finished; `genaug generator list` shows those "
            "that are there, `genaug run create` makes one",
            reason="GENERATOR_NOT_FOUND",
            generator=name,
        ) from None
    return record


def read_artefact(store: Store, name: str) -> Artefact:
    """Read a generator.

    Raises:
        NotFound: there is none, or it is not finished.
        FailedPrecondition: its parts contradict each other.
    """
    record = read_record(store, name)
    config = store.get_json(f"{name}/config.json")
    for field in ("classes", "image_size", "channels"):
        if config.get(field) != record.get(field):
            raise broken(name, f"config.json and generator.json disagree on {field}")
    return Artefact(name, record, config, store.get(f"{name}/model.safetensors"))


def samples(record: Mapping[str, Any]) -> bool:
    """Whether the sampler's settings shape the images of this generator: transforms have none."""
    return bool(record["spec"]["kind"] != "KIND_TRANSFORMS")


def check_classes(record: Mapping[str, Any], asked: Iterable[str]) -> None:
    """Refuse classes that the generator cannot draw.

    Raises:
        InvalidArgument: the message names the classes there are.
    """
    for name in asked:
        if name not in record["classes"]:
            raise InvalidArgument(
                f"class {name!r}: {record['name']} draws {', '.join(record['classes'])} and no other",
                reason="UNKNOWN_CLASS",
                generator=record["name"],
            )


def write_artefact(store: Store, artefact: Artefact) -> None:
    """Write a generator; what is there stays."""
    store.put_new(f"{artefact.name}/model.safetensors", artefact.weights)
    store.put_new_json(f"{artefact.name}/config.json", artefact.config)
    store.put_new_json(f"{artefact.name}/generator.json", artefact.record)


def check_tensors(name: str, *, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse weights whose names or shapes are not the network's.

    Raises:
        FailedPrecondition: reason BROKEN_GENERATOR; the message lists the tensors.
    """
    missing = sorted(expected.keys() - found.keys())
    strange = sorted(found.keys() - expected.keys())
    shapes = sorted(
        key for key in expected.keys() & found.keys() if tuple(expected[key].shape) != tuple(found[key].shape)
    )
    problems = [
        f"{what}: {', '.join(keys[:10])}{f' and {len(keys) - 10} more' if len(keys) > 10 else ''}"
        for what, keys in (("missing", missing), ("unknown", strange), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise broken(name, f"model.safetensors does not fit config.json; tensors {'; '.join(problems)}")


def broken(name: str, what: str) -> FailedPrecondition:
    """The error for an artefact that cannot be used."""
    return FailedPrecondition(
        f"{name}: {what}; delete its folder from the store and run again to fine-tune it anew",
        reason="BROKEN_GENERATOR",
        generator=name,
    )
