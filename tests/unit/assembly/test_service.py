"""The service on a real socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import grpc
import pytest
from grpc_status import rpc_status

from genaug.assembly.service import register
from genaug.shared.manifest import decode, to_rows
from genaug.shared.server import Server
from genaug.shared.settings import load_settings
from genaug.v1 import assembly_service_pb2 as pb
from genaug.v1 import assembly_service_pb2_grpc, dataset_pb2, run_pb2


@pytest.fixture
def stub(tmp_path) -> Iterator[assembly_service_pb2_grpc.AssemblyServiceStub]:
    settings = load_settings(
        home=tmp_path, server={"address": f"unix:{tmp_path}/s", "threads": 4}, store={"url": f"file://{tmp_path}/store"}
    )
    server = Server(settings, [register])
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        yield assembly_service_pb2_grpc.AssemblyServiceStub(channel)
    server.stop(grace=0.2)


def requests(rows, name: str = "datasets/d", **header: object) -> list[pb.ImportDatasetRequest]:
    files = [
        pb.ImportDatasetRequest.File(
            content_sha256=row.content_sha256,
            content=content,
            source_name=row.source_name,
            class_name=row.class_name,
            subject=row.subject,
            attributes=dict(row.attributes or {}),
        )
        for row, content in rows
    ]
    head = pb.ImportDatasetRequest.Header(name=name, format="folder", **header)
    batches = [files[start : start + 7] for start in range(0, len(files), 7)]
    return [
        pb.ImportDatasetRequest(header=head),
        *(pb.ImportDatasetRequest(files=pb.ImportDatasetRequest.Files(files=batch)) for batch in batches),
    ]


@pytest.fixture
def rows(sent):
    return [sent(n, "ab"[n % 2], f"p{n // 2}") for n in range(40)]


def imported(stub, sending) -> dataset_pb2.Dataset:
    *progress, last = stub.ImportDataset(iter(sending))
    assert {event.WhichOneof("event") for event in progress} == {"progress"}
    return last.dataset


def test_an_import_resumes_by_digest_and_is_listed(stub, rows) -> None:
    digests = [row.content_sha256 for row, _ in rows]
    asked = pb.FindMissingContentsRequest(content_sha256=digests)
    assert list(stub.FindMissingContents(asked).content_sha256) == digests
    dataset = imported(stub, requests(rows, seed=4))
    assert list(stub.FindMissingContents(asked).content_sha256) == []
    assert imported(stub, requests([(row, b"") for row, _ in rows], seed=4)) == dataset
    assert (dataset.name, dataset.seed, dataset.folds, list(dataset.split)) == ("datasets/d", 4, 5, [0.7, 0.15, 0.15])
    assert dataset.provenance.recipe == "import/1"
    assert list(stub.ListDatasets(pb.ListDatasetsRequest()).datasets) == [dataset]
    assert stub.GetDataset(pb.GetDatasetRequest(name="datasets/d")) == dataset


def test_a_seed_of_zero_is_no_missing_seed(stub, rows) -> None:
    assert imported(stub, requests(rows, seed=0)).seed == 0
    assert imported(stub, requests(rows, "datasets/e")).seed == 42


def test_a_list_leaves_out_what_has_an_entry_per_image(stub, rows, sent) -> None:
    dataset = imported(stub, requests([*rows, sent(b"no image", "a", "p99")]))
    assert len(dataset.dropped) == 1
    listed = stub.ListDatasets(pb.ListDatasetsRequest()).datasets[0]
    assert not listed.dropped
    assert listed.digest == dataset.digest


def test_versions_are_assembled_listed_and_exported(stub, rows) -> None:
    imported(stub, requests(rows))
    request = pb.AssembleDatasetVersionRequest(
        parent="datasets/d", view=dataset_pb2.View(classes=["b"]), scenario=run_pb2.Scenario(name="real")
    )
    version = stub.AssembleDatasetVersion(request)
    assert stub.AssembleDatasetVersion(request) == version
    assert stub.GetDatasetVersion(pb.GetDatasetVersionRequest(name=version.name)) == version
    listed = stub.ListDatasetVersions(pb.ListDatasetVersionsRequest(parent="datasets/d")).dataset_versions
    assert [entry.name for entry in listed] == ["datasets/d/versions/real", version.name]
    frames = stub.ExportManifest(pb.ExportManifestRequest(name=version.name))
    exported = to_rows(decode(b"".join(answer.frame.data for answer in frames)))
    assert {row.class_name for row in exported} == {"b"}
    whole = stub.ExportManifest(pb.ExportManifestRequest(name="datasets/d", include_sealed=True))
    assert len(to_rows(decode(b"".join(answer.frame.data for answer in whole)))) == 40


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (pb.AssembleDatasetVersionRequest(scenario=run_pb2.Scenario(synthetic=17)), "scenario.synthetic"),
        (pb.AssembleDatasetVersionRequest(scenario=run_pb2.Scenario(transformed=-1)), "scenario.transformed"),
        (pb.AssembleDatasetVersionRequest(scenario=run_pb2.Scenario(synthetic=float("nan"))), "scenario.synthetic"),
        (pb.AssembleDatasetVersionRequest(scenario=run_pb2.Scenario(reduction=9)), "scenario.reduction"),
        (pb.AssembleDatasetVersionRequest(view=dataset_pb2.View(multi_disease=9)), "view.multi_disease"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_out_of_range_are_refused_by_path(stub, rows, request_, path: str) -> None:
    imported(stub, requests(rows))
    request_.parent = "datasets/d"
    with pytest.raises(grpc.RpcError, match=path) as caught:
        stub.AssembleDatasetVersion(request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_deleted_is_gone(stub, rows) -> None:
    imported(stub, requests(rows))
    assert stub.CollectGarbage(pb.CollectGarbageRequest(validate_only=True)).objects == 0
    stub.DeleteDataset(pb.DeleteDatasetRequest(name="datasets/d"))
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetDataset(pb.GetDatasetRequest(name="datasets/d"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda sending: sending[1:], grpc.StatusCode.INVALID_ARGUMENT),
        (lambda sending: [], grpc.StatusCode.INVALID_ARGUMENT),
        (lambda sending: [sending[0], *sending], grpc.StatusCode.INVALID_ARGUMENT),
        (lambda sending: [_header(name="datasets/../etc"), *sending[1:]], grpc.StatusCode.INVALID_ARGUMENT),
        (lambda sending: [_header(split=[0.5, 0.5]), *sending[1:]], grpc.StatusCode.INVALID_ARGUMENT),
        (lambda sending: [_header(folds=1), *sending[1:]], grpc.StatusCode.INVALID_ARGUMENT),
        (
            lambda sending: [sending[0], *(_emptied(message) for message in sending[1:])],
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
        (
            lambda sending: [sending[0], *(_swapped(message) for message in sending[1:])],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
    ids=["no-header", "nothing", "two-headers", "bad-name", "bad-split", "bad-folds", "no-content", "wrong-content"],
)
def test_wrong_imports_are_refused_and_leave_no_dataset(stub, rows, change, code) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        imported(stub, change(requests(rows)))
    assert caught.value.code() == code
    assert rpc_status.from_call(caught.value).details
    assert not stub.ListDatasets(pb.ListDatasetsRequest()).datasets


def _header(name: str = "datasets/d", **header: object) -> pb.ImportDatasetRequest:
    return requests([], name, **header)[0]


def _emptied(message: pb.ImportDatasetRequest) -> pb.ImportDatasetRequest:
    for file in message.files.files:
        file.content = b""
    return message


def _swapped(message: pb.ImportDatasetRequest) -> pb.ImportDatasetRequest:
    for file in message.files.files:
        file.content += b"x"
    return message


def test_a_union_is_streamed_with_progress(stub, rows, sent) -> None:
    imported(stub, requests(rows))
    imported(stub, requests([sent(100 + n, "c", f"p{n // 2}") for n in range(40)], "datasets/e"))
    request = pb.UniteDatasetsRequest(name="datasets/u", datasets=["datasets/d", "datasets/e"])
    *progress, last = stub.UniteDatasets(request)
    assert {event.progress.step for event in progress} >= {"grouping", "writing"}
    assert (last.dataset.name, last.dataset.format, last.dataset.subjects) == ("datasets/u", "union", 40)
    (again,) = stub.UniteDatasets(request)
    assert again == last


def test_images_are_exported_in_pieces(stub, rows) -> None:
    imported(stub, requests(rows))
    request = pb.ExportImagesRequest(name="datasets/d/versions/real", layout="csv")
    events = list(stub.ExportImages(request))
    pieces = [event.piece for event in events if event.WhichOneof("event") == "piece"]
    assert any(event.WhichOneof("event") == "progress" for event in events)
    assert all(len(piece.data) <= 1 << 20 for piece in pieces)
    paths = [piece.path for piece in pieces]
    assert (paths[0], paths[-3:]) == ("export.json", ["train.csv", "validation.csv", "SHA256SUMS"])
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ExportImages(pb.ExportImagesRequest(name="datasets/d/versions/real", layout="tar")))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_dry_run_answers_with_the_dataset_and_its_description_and_stores_nothing(stub, rows, tmp_path) -> None:
    passed_over = [dataset_pb2.PassedOver(reason=".txt: no image", count=3)]
    sending = requests(rows, validate_only=True, passed_over=passed_over)
    *progress, dataset, description = stub.ImportDataset(iter(sending))
    assert {event.WhichOneof("event") for event in progress} == {"progress"}
    assert dataset.dataset.digest
    assert list(dataset.dataset.passed_over) == passed_over
    assert sum(entry.training for entry in description.description.classes) > 20
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    imported_dataset = imported(stub, requests(rows, passed_over=passed_over))
    assert imported_dataset.digest == dataset.dataset.digest
    assert list(imported_dataset.passed_over) == passed_over
    (listed,) = stub.ListDatasets(pb.ListDatasetsRequest()).datasets
    assert listed.digest == imported_dataset.digest


@pytest.mark.parametrize(
    "name", ["a\0b.png", "\u202egnp.exe", "n" * 1000, "line\nline.png", "\U0001f441 ü.png"], ids=ascii
)
def test_any_text_is_a_file_name_and_a_subject(stub, rows, name: str) -> None:
    row, content = rows[0]
    renamed = [(dataclasses.replace(row, source_name=name, subject=f"p {name}"), content), *rows[1:]]
    imported(stub, requests(renamed))
    traced = stub.TraceImages(pb.TraceImagesRequest(name="datasets/d", images=[row.image_id]))
    assert [(origin.source_name, origin.subject, origin.row) for origin in traced.origins] == [(name, f"p {name}", 0)]


def test_a_description_has_a_page_unless_it_is_skipped(stub, rows) -> None:
    imported(stub, requests(rows))

    def events(**options: object) -> list[str]:
        request = pb.DescribeDatasetRequest(**options)
        return [event.WhichOneof("event") for event in stub.DescribeDataset(request)]

    assert events(name="datasets/d")[-2:] == ["description", "page"]
    assert events(name="datasets/d", skip_page=True) == ["description"]


def test_a_version_is_described_without_the_sealed_rows(stub, rows) -> None:
    imported(stub, requests(rows))
    request = pb.AssembleDatasetVersionRequest(
        parent="datasets/d", view=dataset_pb2.View(classes=["b"]), scenario=run_pb2.Scenario(name="real")
    )
    version = stub.AssembleDatasetVersion(request)
    *_, described, page = stub.DescribeDataset(pb.DescribeDatasetRequest(name=version.name))
    assert described.description.dataset == version.name
    assert [(entry.class_name, entry.test) for entry in described.description.classes] == [("b", 0)]
    assert not described.description.HasField("leakage_estimate")
    assert b"Classes" in page.page.data
