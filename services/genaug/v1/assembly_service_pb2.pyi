from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import dataset_pb2 as _dataset_pb2
from genaug.v1 import run_pb2 as _run_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FindMissingContentsRequest(_message.Message):
    __slots__ = ("content_sha256",)
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    content_sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, content_sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class FindMissingContentsResponse(_message.Message):
    __slots__ = ("content_sha256",)
    CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    content_sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, content_sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class ImportDatasetRequest(_message.Message):
    __slots__ = ("header", "files")
    class Header(_message.Message):
        __slots__ = ("name", "format", "split", "folds", "seed", "bits", "window", "on_conflict", "near_duplicates", "validate_only", "passed_over")
        NAME_FIELD_NUMBER: _ClassVar[int]
        FORMAT_FIELD_NUMBER: _ClassVar[int]
        SPLIT_FIELD_NUMBER: _ClassVar[int]
        FOLDS_FIELD_NUMBER: _ClassVar[int]
        SEED_FIELD_NUMBER: _ClassVar[int]
        BITS_FIELD_NUMBER: _ClassVar[int]
        WINDOW_FIELD_NUMBER: _ClassVar[int]
        ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
        NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
        VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
        PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
        name: str
        format: str
        split: _containers.RepeatedScalarFieldContainer[float]
        folds: int
        seed: int
        bits: int
        window: _containers.RepeatedScalarFieldContainer[float]
        on_conflict: _run_pb2.ImportSpec.OnConflict
        near_duplicates: _run_pb2.ImportSpec.NearDuplicates
        validate_only: bool
        passed_over: _containers.RepeatedCompositeFieldContainer[_dataset_pb2.PassedOver]
        def __init__(self, name: _Optional[str] = ..., format: _Optional[str] = ..., split: _Optional[_Iterable[float]] = ..., folds: _Optional[int] = ..., seed: _Optional[int] = ..., bits: _Optional[int] = ..., window: _Optional[_Iterable[float]] = ..., on_conflict: _Optional[_Union[_run_pb2.ImportSpec.OnConflict, str]] = ..., near_duplicates: _Optional[_Union[_run_pb2.ImportSpec.NearDuplicates, str]] = ..., validate_only: _Optional[bool] = ..., passed_over: _Optional[_Iterable[_Union[_dataset_pb2.PassedOver, _Mapping]]] = ...) -> None: ...
    class Files(_message.Message):
        __slots__ = ("files",)
        FILES_FIELD_NUMBER: _ClassVar[int]
        files: _containers.RepeatedCompositeFieldContainer[ImportDatasetRequest.File]
        def __init__(self, files: _Optional[_Iterable[_Union[ImportDatasetRequest.File, _Mapping]]] = ...) -> None: ...
    class File(_message.Message):
        __slots__ = ("content_sha256", "content", "source_name", "class_name", "subject", "split", "attributes")
        class AttributesEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: str
            def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
        CONTENT_SHA256_FIELD_NUMBER: _ClassVar[int]
        CONTENT_FIELD_NUMBER: _ClassVar[int]
        SOURCE_NAME_FIELD_NUMBER: _ClassVar[int]
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        SUBJECT_FIELD_NUMBER: _ClassVar[int]
        SPLIT_FIELD_NUMBER: _ClassVar[int]
        ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
        content_sha256: str
        content: bytes
        source_name: str
        class_name: str
        subject: str
        split: str
        attributes: _containers.ScalarMap[str, str]
        def __init__(self, content_sha256: _Optional[str] = ..., content: _Optional[bytes] = ..., source_name: _Optional[str] = ..., class_name: _Optional[str] = ..., subject: _Optional[str] = ..., split: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    header: ImportDatasetRequest.Header
    files: ImportDatasetRequest.Files
    def __init__(self, header: _Optional[_Union[ImportDatasetRequest.Header, _Mapping]] = ..., files: _Optional[_Union[ImportDatasetRequest.Files, _Mapping]] = ...) -> None: ...

class ImportDatasetResponse(_message.Message):
    __slots__ = ("progress", "dataset", "description")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    dataset: _dataset_pb2.Dataset
    description: _dataset_pb2.DatasetDescription
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., dataset: _Optional[_Union[_dataset_pb2.Dataset, _Mapping]] = ..., description: _Optional[_Union[_dataset_pb2.DatasetDescription, _Mapping]] = ...) -> None: ...

class GetDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetsResponse(_message.Message):
    __slots__ = ("datasets", "next_page_token")
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    datasets: _containers.RepeatedCompositeFieldContainer[_dataset_pb2.Dataset]
    next_page_token: str
    def __init__(self, datasets: _Optional[_Iterable[_Union[_dataset_pb2.Dataset, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DeleteDatasetRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetDatasetVersionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListDatasetVersionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListDatasetVersionsResponse(_message.Message):
    __slots__ = ("dataset_versions", "next_page_token")
    DATASET_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dataset_versions: _containers.RepeatedCompositeFieldContainer[_dataset_pb2.DatasetVersion]
    next_page_token: str
    def __init__(self, dataset_versions: _Optional[_Iterable[_Union[_dataset_pb2.DatasetVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AssembleDatasetVersionRequest(_message.Message):
    __slots__ = ("parent", "view", "selections", "scenario", "augmented_classes", "labelled_manifests", "transformed_manifests", "seed", "matches")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    SELECTIONS_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    AUGMENTED_CLASSES_FIELD_NUMBER: _ClassVar[int]
    LABELLED_MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMED_MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    parent: str
    view: _dataset_pb2.View
    selections: _containers.RepeatedScalarFieldContainer[str]
    scenario: _run_pb2.Scenario
    augmented_classes: _containers.RepeatedScalarFieldContainer[str]
    labelled_manifests: _containers.RepeatedScalarFieldContainer[str]
    transformed_manifests: _containers.RepeatedScalarFieldContainer[str]
    seed: int
    matches: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parent: _Optional[str] = ..., view: _Optional[_Union[_dataset_pb2.View, _Mapping]] = ..., selections: _Optional[_Iterable[str]] = ..., scenario: _Optional[_Union[_run_pb2.Scenario, _Mapping]] = ..., augmented_classes: _Optional[_Iterable[str]] = ..., labelled_manifests: _Optional[_Iterable[str]] = ..., transformed_manifests: _Optional[_Iterable[str]] = ..., seed: _Optional[int] = ..., matches: _Optional[_Iterable[str]] = ...) -> None: ...

class ExportManifestRequest(_message.Message):
    __slots__ = ("name", "include_sealed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SEALED_FIELD_NUMBER: _ClassVar[int]
    name: str
    include_sealed: bool
    def __init__(self, name: _Optional[str] = ..., include_sealed: _Optional[bool] = ...) -> None: ...

class ExportManifestResponse(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: _common_pb2.FileFrame
    def __init__(self, frame: _Optional[_Union[_common_pb2.FileFrame, _Mapping]] = ...) -> None: ...

class CollectGarbageRequest(_message.Message):
    __slots__ = ("validate_only",)
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    validate_only: bool
    def __init__(self, validate_only: _Optional[bool] = ...) -> None: ...

class CollectGarbageResponse(_message.Message):
    __slots__ = ("objects", "size_bytes")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    objects: int
    size_bytes: int
    def __init__(self, objects: _Optional[int] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class UniteDatasetsRequest(_message.Message):
    __slots__ = ("name", "datasets")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    name: str
    datasets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., datasets: _Optional[_Iterable[str]] = ...) -> None: ...

class UniteDatasetsResponse(_message.Message):
    __slots__ = ("progress", "dataset")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    dataset: _dataset_pb2.Dataset
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., dataset: _Optional[_Union[_dataset_pb2.Dataset, _Mapping]] = ...) -> None: ...

class DescribeDatasetRequest(_message.Message):
    __slots__ = ("name", "skip_page")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SKIP_PAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    skip_page: bool
    def __init__(self, name: _Optional[str] = ..., skip_page: _Optional[bool] = ...) -> None: ...

class DescribeDatasetResponse(_message.Message):
    __slots__ = ("progress", "description", "page")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    description: _dataset_pb2.DatasetDescription
    page: _common_pb2.FileFrame
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., description: _Optional[_Union[_dataset_pb2.DatasetDescription, _Mapping]] = ..., page: _Optional[_Union[_common_pb2.FileFrame, _Mapping]] = ...) -> None: ...

class ExportImagesRequest(_message.Message):
    __slots__ = ("name", "layout")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    name: str
    layout: str
    def __init__(self, name: _Optional[str] = ..., layout: _Optional[str] = ...) -> None: ...

class ExportImagesResponse(_message.Message):
    __slots__ = ("progress", "piece")
    class Piece(_message.Message):
        __slots__ = ("path", "data")
        PATH_FIELD_NUMBER: _ClassVar[int]
        DATA_FIELD_NUMBER: _ClassVar[int]
        path: str
        data: bytes
        def __init__(self, path: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    piece: ExportImagesResponse.Piece
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., piece: _Optional[_Union[ExportImagesResponse.Piece, _Mapping]] = ...) -> None: ...

class TraceImagesRequest(_message.Message):
    __slots__ = ("name", "images")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    name: str
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., images: _Optional[_Iterable[str]] = ...) -> None: ...

class TraceImagesResponse(_message.Message):
    __slots__ = ("origins",)
    class Origin(_message.Message):
        __slots__ = ("image_id", "row", "source_name", "subject")
        IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
        ROW_FIELD_NUMBER: _ClassVar[int]
        SOURCE_NAME_FIELD_NUMBER: _ClassVar[int]
        SUBJECT_FIELD_NUMBER: _ClassVar[int]
        image_id: str
        row: int
        source_name: str
        subject: str
        def __init__(self, image_id: _Optional[str] = ..., row: _Optional[int] = ..., source_name: _Optional[str] = ..., subject: _Optional[str] = ...) -> None: ...
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    origins: _containers.RepeatedCompositeFieldContainer[TraceImagesResponse.Origin]
    def __init__(self, origins: _Optional[_Iterable[_Union[TraceImagesResponse.Origin, _Mapping]]] = ...) -> None: ...
