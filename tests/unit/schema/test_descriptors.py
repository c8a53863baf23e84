"""Schema models and protobuf messages have the same fields, enums and stated defaults."""

from __future__ import annotations

import inspect
import re
import types
import typing
from enum import StrEnum
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic import JsonValue

from genaug.schema import classifiers, common, datasets, evaluation, generators, requests, run, sampling, selection
from genaug.schema.model import Model
from genaug.v1 import (
    assembly_service_pb2,
    classifier_pb2,
    common_pb2,
    dataset_pb2,
    evaluation_pb2,
    generation_service_pb2,
    generator_pb2,
    generator_spec_pb2,
    labeling_service_pb2,
    run_pb2,
    sampler_pb2,
    selection_pb2,
    selection_service_pb2,
)

PROTOS = Path(__file__).parents[3] / "protos" / "genaug" / "v1"
PROTO_MODULES = (
    common_pb2,
    dataset_pb2,
    generator_spec_pb2,
    generator_pb2,
    classifier_pb2,
    evaluation_pb2,
    selection_pb2,
    run_pb2,
)
# Models whose message has another name.
RENAMED = {
    "ClassTally": "DatasetDescription.Tally",
    "GridMemorization": "Generator.GridCloseness",
    "SelectionQuality": "Selection.Quality",
    "SelectionAlternative": "Selection.Alternative",
    "MatchCloseness": "Match.Closeness",
}
REQUESTS = {
    requests.SamplerSettings: sampler_pb2.SamplerSettings,
    requests.GenerateRequest: generation_service_pb2.GenerateImagesRequest,
    requests.LabelRequest: labeling_service_pb2.LabelBatchRequest,
    requests.LabelledBatch: labeling_service_pb2.LabelledBatch,
    requests.Acceptance: labeling_service_pb2.Acceptance,
    requests.Disagreement: labeling_service_pb2.Disagreement,
    requests.EmbedRequest: selection_service_pb2.EmbedVersionRequest,
    requests.SelectRequest: selection_service_pb2.SelectImagesRequest,
    requests.MatchRequest: selection_service_pb2.MatchImagesRequest,
    requests.AssembleRequest: assembly_service_pb2.AssembleDatasetVersionRequest,
    sampling.Sampler: sampler_pb2.SamplerSettings,
}
# Request fields for callers other than the six steps; `import` is read by the client alone.
LEFT_OUT = {
    "GenerateImagesRequest": {"format"},
    "RunSpec": {"import"},
}
TYPES = {
    FieldDescriptor.TYPE_STRING: str,
    FieldDescriptor.TYPE_BOOL: bool,
    FieldDescriptor.TYPE_DOUBLE: float,
    FieldDescriptor.TYPE_INT32: int,
    FieldDescriptor.TYPE_INT64: int,
}


def messages(descriptor: Descriptor) -> list[Descriptor]:
    nested = [d for d in descriptor.nested_types if not d.GetOptions().map_entry]
    return [descriptor, *(found for d in nested for found in messages(d))]


MESSAGES = {
    d.full_name.removeprefix("genaug.v1."): d
    for module in PROTO_MODULES
    for top in module.DESCRIPTOR.message_types_by_name.values()
    for d in messages(top)
}
MODELS = {
    kind: MESSAGES.get(RENAMED.get(name, name)) or next(d for key, d in MESSAGES.items() if key.endswith(f".{name}"))
    for module in (common, datasets, generators, classifiers, evaluation, selection, run)
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and issubclass(kind, Model) and kind.__module__ == module.__name__
} | {kind: message.DESCRIPTOR for kind, message in REQUESTS.items()}
PAIRS = [pytest.param(kind, d, id=kind.__name__) for kind, d in MODELS.items()]


def plain(annotation: object) -> object:
    """An annotation without Annotated and None."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = [plain(part) for part in typing.get_args(annotation) if part is not type(None)]
    return annotation


def expected(field: FieldDescriptor) -> object:
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Struct":
            return dict[str, JsonValue]
        if field.message_type.GetOptions().map_entry:
            return dict[str, expected(field.message_type.fields_by_name["value"])]  # type: ignore[misc]
        return next(kind for kind, d in MODELS.items() if d is field.message_type)
    return field.enum_type if field.enum_type is not None else TYPES[field.type]


@pytest.mark.parametrize(("kind", "message"), PAIRS)
def test_fields_and_types_agree(kind: type[Model], message: Descriptor) -> None:
    hints = typing.get_type_hints(kind, include_extras=True)
    left_out = LEFT_OUT.get(message.name, set())
    assert set(kind.model_fields) == {field.name for field in message.fields} - left_out
    for field in message.fields:
        if field.name in left_out:
            continue
        annotation = plain(hints[field.name])
        if field.is_repeated and typing.get_origin(annotation) is tuple:
            annotation = plain(typing.get_args(annotation)[0])
        want = expected(field)
        if field.enum_type is not None:
            if annotation is str:
                continue
            words = {value.name for value in field.enum_type.values if value.number}
            assert issubclass(typing.cast(type, annotation), StrEnum)
            # A model names the value 0 only where it has a meaning of its own, as in Verdict.Outcome.
            unspecified = field.enum_type.values_by_number[0].name
            members = {str(member) for member in typing.cast(type[StrEnum], annotation)} - {unspecified}
            assert members <= words if kind in REQUESTS or annotation is common.Precision else members == words
        elif want in (sampling.Sampler, requests.SamplerSettings):
            assert annotation in (sampling.Sampler, requests.SamplerSettings)
        else:
            assert annotation == want, field.name


def comments() -> dict[str, str]:
    """Comment of each field, by "Message.field"."""
    found: dict[str, str] = {}
    for file in PROTOS.glob("*.proto"):
        stack: list[str] = []
        pending: list[str] = []
        for line in map(str.strip, file.read_text().splitlines()):
            if line.startswith("//"):
                pending.append(line[2:].strip())
                continue
            if opened := re.match(r"(message|enum|oneof|service)\s+(\w+)\s*\{", line):
                stack.append("" if opened[1] == "oneof" else opened[2])
                if line.endswith("}"):
                    stack.pop()
            elif line.startswith("}"):
                stack.pop()
            elif field := re.match(r"(?:repeated |optional )?(?:map<[^>]+>|[\w.]+)\s+(\w+)\s*=\s*\d+", line):
                found[".".join([*filter(None, stack), field[1]])] = " ".join(pending)
            pending = []
    return found


COMMENTS = comments()
SPECS = [
    run.GenerationSpec,
    run.LabelingSpec,
    run.Scenario,
    selection.SelectionSpec,
    evaluation.EvaluationSettings,
    classifiers.TrainingOptions,
    generators.ClassConditionalSpec,
    generators.StableDiffusionSpec,
    generators.LoraSpec,
    generators.DreamBoothSpec,
    run.ImportSpec,
    common.TransformSpec,
]


@pytest.mark.parametrize("kind", SPECS)
def test_stated_defaults_are_the_models(kind: type[Model]) -> None:
    """A field's comment says "X by default", and X is the model's."""
    stated = 0
    for name, field in kind.model_fields.items():
        comment = COMMENTS[f"{kind.__name__}.{name}"]
        match = re.search(r"(\S+) by default", comment)
        if field.default is None or isinstance(field.default, (tuple, dict, Model)) or field.default == "":
            continue
        if not field.default and not MODELS[kind].fields_by_name[name].has_presence:
            continue  # proto3's own default
        assert match, f"{kind.__name__}.{name} states no default: {comment!r}"
        word = match[1].strip('";,.')
        default = field.default
        if isinstance(default, StrEnum):
            assert word == default.name
        elif isinstance(default, bool):
            assert word == str(default).lower()
        elif isinstance(default, (int, float)):
            assert float(word) == default, name
        else:
            assert default in comment
        stated += 1
    assert stated or kind is run.Scenario, f"no default of {kind.__name__} was compared"


def test_every_comment_is_there() -> None:
    missing = [
        f"{name}.{field.name}"
        for name, message in MESSAGES.items()
        for field in message.fields
        if not COMMENTS.get(f"{name}.{field.name}")
    ]
    assert not missing
