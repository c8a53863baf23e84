"""The wire keeps the rules of AIP that we follow: read off the descriptors, not the files."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest
from google.protobuf.descriptor import ServiceDescriptor

import genaug.v1

MODULES = [
    importlib.import_module(f"genaug.v1.{module.name}")
    for module in pkgutil.iter_modules(genaug.v1.__path__)
    if module.name.endswith("_pb2")
]
SERVICES: list[ServiceDescriptor] = [s for m in MODULES for s in m.DESCRIPTOR.services_by_name.values()]
METHODS = [pytest.param(m, id=f"{s.name}.{m.name}") for s in SERVICES for m in s.methods]
MESSAGES = [m for module in MODULES for m in module.DESCRIPTOR.message_types_by_name.values()]
RESOURCES = (
    "Dataset",
    "DatasetVersion",
    "Generator",
    "Batch",
    "Classifier",
    "Embedding",
    "Selection",
    "Run",
    "Evaluation",
)


def test_there_are_the_five_services() -> None:
    assert sorted(service.name for service in SERVICES) == [
        "AssemblyService",
        "GenerationService",
        "LabelingService",
        "OrchestratorService",
        "SelectionService",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_a_request_is_named_for_its_method(method) -> None:
    assert method.input_type.name == f"{method.name}Request"


@pytest.mark.parametrize("method", [m for m in METHODS if m.values[0].name.startswith(("Get", "Delete"))])
def test_get_and_delete_take_a_name(method) -> None:
    assert "name" in method.input_type.fields_by_name
    if method.name.startswith("Get") and not method.server_streaming:
        assert method.output_type.name == method.name.removeprefix("Get")
    if method.name.startswith("Delete"):
        assert method.output_type.full_name == "google.protobuf.Empty"


@pytest.mark.parametrize("method", [m for m in METHODS if m.values[0].name.startswith("List")])
def test_list_has_pages(method) -> None:
    assert {"page_size", "page_token"} <= set(method.input_type.fields_by_name)
    first, second = method.output_type.fields
    assert first.is_repeated
    assert second.name == "next_page_token"


@pytest.mark.parametrize("method", [m for m in METHODS if m.values[0].server_streaming])
def test_a_slow_call_streams_progress_before_its_result(method) -> None:
    if method.name.startswith(("Get", "Export", "Watch")):
        return
    if (
        "image" in [field.name for field in method.input_type.fields]
        and "event" not in method.output_type.oneofs_by_name
    ):
        # Its answers are the progress: one for each image.
        assert "index" in method.output_type.fields_by_name
        return
    events = [field.name for field in method.output_type.oneofs_by_name["event"].fields]
    assert events[0] == "progress"
    assert len(events) >= 2


@pytest.mark.parametrize("name", RESOURCES)
def test_a_resource_starts_with_its_name(name) -> None:
    message = next(m for m in MESSAGES if m.name == name)
    assert message.fields[0].name == "name"
    assert message.fields[0].number == 1


def test_every_enum_has_an_unspecified_zero_and_its_prefix() -> None:
    enums = [enum for message in MESSAGES for enum in message.enum_types]
    enums += [enum for module in MODULES for enum in module.DESCRIPTOR.enum_types_by_name.values()]
    assert enums
    for enum in enums:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
        assert all(value.name.startswith(f"{prefix}_") for value in enum.values)
