"""A fine-tuned generator in the store: config.json, model.safetensors, and generator.json, written last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import JsonValue, ValidationError

from genaug.schema.generators import Generator, GeneratorSpec
from genaug.schema.model import Model, read
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store

C = TypeVar("C", bound="ArtifactConfig")


class ArtifactConfig(Model):
    """config.json: facts that drawing needs beside the weights. Each kind adds its own fields."""

    kind: str
    """As `kind_word` writes it."""
    classes: tuple[str, ...]
    image_size: int
    """Height and width, pixels."""
    channels: int

    def stored(self) -> dict[str, JsonValue]:
        """The JSON that is stored, with fields that are None."""
        return self.model_dump(mode="json", by_alias=True)


@dataclass(frozen=True)
class Artifact:
    """The three objects of a generator."""

    name: str
    """ "generators/{digest}"."""
    record: Generator
    config: Mapping[str, JsonValue]
    """JSON of the kind's `ArtifactConfig`."""
    weights: bytes
    """safetensors."""

    def parse_config(self, kind: type[C]) -> C:
        """The configuration as the model of its kind.

        Raises:
            FailedPrecondition: reason BROKEN_GENERATOR; fields are missing or of another type.
        """
        try:
            return kind.model_validate(self.config)
        except ValidationError as error:
            [first, *_] = error.errors(include_url=False)
            path = ".".join(map(str, first["loc"]))
            raise broken(self.name, f"config.json cannot be read ({path}: {first['msg']})") from None


class HasShape(Protocol):
    """A tensor or array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each dimension."""


def kind_word(spec: GeneratorSpec) -> str:
    """The kind as config.json spells it, such as "KIND_TRANSFORMS"."""
    return f"KIND_{spec.kind_name.upper()}"


def read_record(store: Store, name: str) -> Generator:
    """Read the record of a generator.

    Raises:
        NotFound: it does not exist or is not finished.
    """
    try:
        return read(store, f"{name}/generator.json", Generator)
    except NotFound:
        raise NotFound(
            f"{name}: no such generator, or its fine-tuning has not finished; `genaug generator list` shows those "
            "that are there, `genaug run create` makes one",
            reason="GENERATOR_NOT_FOUND",
            generator=name,
        ) from None


def read_artifact(store: Store, name: str) -> Artifact:
    """Read a generator.

    Raises:
        NotFound: it does not exist or is not finished.
        FailedPrecondition: reason BROKEN_GENERATOR; its parts contradict each other, or its kind is unknown.
    """
    record = read_record(store, name)
    artifact = Artifact(name, record, store.get_json(f"{name}/config.json"), store.get(f"{name}/model.safetensors"))
    config = artifact.parse_config(ArtifactConfig)
    # The record of a kind that this version does not know is read as the default kind's.
    if config.kind != kind_word(record.spec):
        raise broken(name, f"this version of genaug knows no generator of kind {config.kind!r}")
    for field in ("classes", "image_size", "channels"):
        if getattr(config, field) != getattr(record, field):
            raise broken(name, f"config.json and generator.json disagree on {field}")
    return artifact


def check_classes(record: Generator, classes: Iterable[str]) -> None:
    """Refuse classes that the generator cannot draw.

    Raises:
        InvalidArgument: the message names the classes there are.
    """
    for name in classes:
        if name not in record.classes:
            raise InvalidArgument(
                f"class {name!r}: {record.name} draws {', '.join(record.classes)} and no other",
                reason="UNKNOWN_CLASS",
                generator=record.name,
            )


def write_artifact(store: Store, artifact: Artifact) -> None:
    """Write a generator; objects that exist are left as they are."""
    store.put_new(f"{artifact.name}/model.safetensors", artifact.weights)
    store.put_new_json(f"{artifact.name}/config.json", artifact.config)
    store.put_new_json(f"{artifact.name}/generator.json", artifact.record.json_value())


def check_tensors(name: str, *, actual: Mapping[str, HasShape], expected: Mapping[str, HasShape]) -> None:
    """Refuse weights with other names or shapes than the network's.

    Raises:
        FailedPrecondition: reason BROKEN_GENERATOR; the message lists the tensors.
    """
    missing = sorted(expected.keys() - actual.keys())
    unknown = sorted(actual.keys() - expected.keys())
    shapes = sorted(key for key in expected.keys() & actual.keys() if expected[key].shape != actual[key].shape)
    problems = [
        f"{problem}: {', '.join(keys[:10])}{f' and {len(keys) - 10} more' if len(keys) > 10 else ''}"
        for problem, keys in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise broken(name, f"model.safetensors does not fit config.json; tensors {'; '.join(problems)}")


def broken(name: str, problem: str) -> FailedPrecondition:
    """The error for an artifact that cannot be used."""
    return FailedPrecondition(
        f"{name}: {problem}; delete its folder from the store and run again to fine-tune it anew",
        reason="BROKEN_GENERATOR",
        generator=name,
    )
