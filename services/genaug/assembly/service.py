"""AssemblyService: datasets and their versions on the wire."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from google.protobuf import empty_pb2

from genaug.assembly import datasets
from genaug.assembly.assemble import assemble
from genaug.assembly.describe.contact_sheet import contact_sheets
from genaug.assembly.describe.describe import describe_dataset
from genaug.assembly.describe.page import render
from genaug.assembly.export import export_images
from genaug.assembly.garbage import collect_garbage
from genaug.assembly.import_dataset import Upload, import_dataset
from genaug.assembly.import_plan import SourceRow, check_row, check_sha256
from genaug.assembly.trace import trace_images
from genaug.assembly.unite import unite_datasets
from genaug.assembly.upload_decoder import missing_contents
from genaug.assembly.validate_import import validate_import
from genaug.schema.common import Progress
from genaug.schema.datasets import Dataset, DatasetVersion, PassedOver
from genaug.schema.requests import AssembleRequest
from genaug.schema.run import ImportSpec
from genaug.schema.wire import from_proto, to_proto
from genaug.shared.errors import Cancelled, InvalidArgument
from genaug.shared.manifest import read_rows
from genaug.shared.names import dataset_id, version_ids
from genaug.shared.server import frames, page
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.v1 import assembly_service_pb2 as pb
from genaug.v1 import assembly_service_pb2_grpc, common_pb2, dataset_pb2

_MAX_CONTENTS = 10_000


class AssemblyServicer(assembly_service_pb2_grpc.AssemblyServiceServicer):
    """Import and seal, assembly, export, deletion. All state is in the store."""

    service_name = "genaug.v1.AssemblyService"

    def __init__(self, settings: Settings) -> None:
        self._store = Store.open(settings.store, "assembly")

    def warm_up(self) -> None:
        """Check the store."""
        self._store.check()

    def close(self) -> None:
        """Release nothing: all state is in the store."""

    def FindMissingContents(
        self, request: pb.FindMissingContentsRequest, context: grpc.ServicerContext
    ) -> pb.FindMissingContentsResponse:
        if len(request.content_sha256) > _MAX_CONTENTS:
            raise InvalidArgument(f"content_sha256: more than {_MAX_CONTENTS}; ask in parts", reason="TOO_MANY")
        contents = [check_sha256(value, field="content_sha256") for value in request.content_sha256]
        return pb.FindMissingContentsResponse(content_sha256=missing_contents(self._store, contents))

    def ImportDataset(
        self, request_iterator: Iterator[pb.ImportDatasetRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ImportDatasetResponse]:
        requests = _received(request_iterator)
        first = next(requests, None)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidArgument("the first message of an import is its header", reason="NO_HEADER")
        header = first.header
        dataset, spec = dataset_id(header.name), from_proto(ImportSpec, header)
        passed_over = [from_proto(PassedOver, entry) for entry in header.passed_over]
        perform = validate_import if header.validate_only else import_dataset
        for event in perform(dataset, spec, _to_batches(requests), self._store, passed_over=passed_over):
            if isinstance(event, Progress):
                yield pb.ImportDatasetResponse(progress=_to_progress(event))
            elif isinstance(event, Dataset):
                yield pb.ImportDatasetResponse(dataset=_to_dataset(event))
            else:
                yield pb.ImportDatasetResponse(description=to_proto(dataset_pb2.DatasetDescription, event))

    def GetDataset(self, request: pb.GetDatasetRequest, context: grpc.ServicerContext) -> dataset_pb2.Dataset:
        return _to_dataset(datasets.get_dataset(self._store, dataset_id(request.name)))

    def ListDatasets(self, request: pb.ListDatasetsRequest, context: grpc.ServicerContext) -> pb.ListDatasetsResponse:
        names, token = page(
            datasets.list_datasets(self._store), page_size=request.page_size, page_token=request.page_token
        )
        # These fields have an entry per image: a page of them could exceed the size of a message.
        records = [
            datasets.get_dataset(self._store, name).model_copy(update={"dropped": (), "near_duplicates": ()})
            for name in names
        ]
        return pb.ListDatasetsResponse(datasets=map(_to_dataset, records), next_page_token=token)

    def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        datasets.delete_dataset(self._store, dataset_id(request.name))
        return empty_pb2.Empty()

    def GetDatasetVersion(
        self, request: pb.GetDatasetVersionRequest, context: grpc.ServicerContext
    ) -> dataset_pb2.DatasetVersion:
        return _to_version(datasets.get_version(self._store, *version_ids(request.name)))

    def ListDatasetVersions(
        self, request: pb.ListDatasetVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListDatasetVersionsResponse:
        dataset = dataset_id(request.parent)
        names, token = page(
            datasets.list_versions(self._store, dataset), page_size=request.page_size, page_token=request.page_token
        )
        versions = [_to_version(datasets.get_version(self._store, dataset, name)) for name in names]
        return pb.ListDatasetVersionsResponse(dataset_versions=versions, next_page_token=token)

    def AssembleDatasetVersion(
        self, request: pb.AssembleDatasetVersionRequest, context: grpc.ServicerContext
    ) -> dataset_pb2.DatasetVersion:
        return _to_version(assemble(from_proto(AssembleRequest, request), self._store))

    def UniteDatasets(
        self, request: pb.UniteDatasetsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.UniteDatasetsResponse]:
        parents = [dataset_id(name) for name in request.datasets]
        for event in unite_datasets(dataset_id(request.name), parents, self._store):
            if isinstance(event, Progress):
                yield pb.UniteDatasetsResponse(progress=_to_progress(event))
            else:
                yield pb.UniteDatasetsResponse(dataset=_to_dataset(event))

    def DescribeDataset(
        self, request: pb.DescribeDatasetRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DescribeDatasetResponse]:
        dataset, version = _dataset_or_version(request.name)
        for event in describe_dataset(self._store, dataset, version):
            if isinstance(event, Progress):
                yield pb.DescribeDatasetResponse(progress=_to_progress(event))
                continue
            yield pb.DescribeDatasetResponse(description=to_proto(dataset_pb2.DatasetDescription, event))
            if request.skip_page:
                continue
            sheets = contact_sheets(self._store, read_rows(self._store, datasets.rows_key(dataset, version)))
            page = render(event, datasets.get_dataset(self._store, dataset), sheets)
            for part in frames(page.encode()):
                yield pb.DescribeDatasetResponse(page=common_pb2.FileFrame(data=part))

    def TraceImages(self, request: pb.TraceImagesRequest, context: grpc.ServicerContext) -> pb.TraceImagesResponse:
        origins = trace_images(self._store, dataset_id(request.name), request.images)
        return pb.TraceImagesResponse(
            origins=[
                pb.TraceImagesResponse.Origin(
                    image_id=origin.image_id, row=origin.row, source_name=origin.source_name, subject=origin.subject
                )
                for origin in origins
            ]
        )

    def ExportManifest(
        self, request: pb.ExportManifestRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportManifestResponse]:
        dataset, version = _dataset_or_version(request.name)
        data = datasets.export_manifest(self._store, dataset, version, include_sealed=request.include_sealed)
        for part in frames(data):
            yield pb.ExportManifestResponse(frame=common_pb2.FileFrame(data=part))

    def ExportImages(
        self, request: pb.ExportImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportImagesResponse]:
        dataset, version = version_ids(request.name)
        for event in export_images(self._store, dataset, version, request.layout or "folders"):
            if isinstance(event, Progress):
                yield pb.ExportImagesResponse(progress=_to_progress(event))
                continue
            # An empty file has one piece, too.
            for part in frames(event.data) if event.data else (b"",):
                yield pb.ExportImagesResponse(piece=pb.ExportImagesResponse.Piece(path=event.path, data=part))

    def CollectGarbage(
        self, request: pb.CollectGarbageRequest, context: grpc.ServicerContext
    ) -> pb.CollectGarbageResponse:
        garbage = collect_garbage(self._store, validate_only=request.validate_only)
        return pb.CollectGarbageResponse(objects=garbage.objects, size_bytes=garbage.size_bytes)


def register(server: grpc.Server, settings: Settings) -> AssemblyServicer:
    """Add the service to a server."""
    servicer = AssemblyServicer(settings)
    assembly_service_pb2_grpc.add_AssemblyServiceServicer_to_server(servicer, server)
    return servicer


def _dataset_or_version(name: str) -> tuple[str, str]:
    """Return the ids (dataset, version) in the name of either; "real" for a dataset."""
    return version_ids(name) if "/versions/" in name else (dataset_id(name), datasets.REAL)


def _received(requests: Iterator[pb.ImportDatasetRequest]) -> Iterator[pb.ImportDatasetRequest]:
    """Yield the requests; a client that disconnects is a cancellation, not an internal error."""
    while True:
        try:
            request = next(requests, None)
        except grpc.RpcError:
            raise Cancelled("the import was broken off by its client; ask again to go on") from None
        if request is None:
            return
        yield request


def _to_batches(requests: Iterator[pb.ImportDatasetRequest]) -> Iterator[list[Upload]]:
    number = 0
    for request in requests:
        if request.WhichOneof("part") != "files":
            raise InvalidArgument("after its header an import sends files", reason="SECOND_HEADER")
        batch = []
        for file in request.files.files:
            batch.append((check_row(_to_row(file), number=number), file.content))
            number += 1
        yield batch


def _to_row(file: pb.ImportDatasetRequest.File) -> SourceRow:
    return SourceRow(
        content_sha256=file.content_sha256,
        source_name=file.source_name,
        class_name=file.class_name,
        subject=file.subject,
        # `check_row` refuses any other word.
        split=file.split or None,  # type: ignore[arg-type]
        attributes=dict(file.attributes),
    )


def _to_progress(event: Progress) -> common_pb2.Progress:
    return to_proto(common_pb2.Progress, event)


def _to_dataset(record: Dataset) -> dataset_pb2.Dataset:
    return to_proto(dataset_pb2.Dataset, record)


def _to_version(record: DatasetVersion) -> dataset_pb2.DatasetVersion:
    return to_proto(dataset_pb2.DatasetVersion, record)
