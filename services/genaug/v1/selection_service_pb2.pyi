from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import run_pb2 as _run_pb2
from genaug.v1 import selection_pb2 as _selection_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbedVersionRequest(_message.Message):
    __slots__ = ("dataset_version", "classifier", "precision")
    DATASET_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLASSIFIER_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    dataset_version: str
    classifier: str
    precision: _common_pb2.Precision
    def __init__(self, dataset_version: _Optional[str] = ..., classifier: _Optional[str] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ...) -> None: ...

class EmbedVersionResponse(_message.Message):
    __slots__ = ("progress", "embedding")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    embedding: _selection_pb2.Embedding
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., embedding: _Optional[_Union[_selection_pb2.Embedding, _Mapping]] = ...) -> None: ...

class SelectImagesRequest(_message.Message):
    __slots__ = ("dataset_version", "embedding", "spec")
    DATASET_VERSION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    dataset_version: str
    embedding: str
    spec: _run_pb2.SelectionSpec
    def __init__(self, dataset_version: _Optional[str] = ..., embedding: _Optional[str] = ..., spec: _Optional[_Union[_run_pb2.SelectionSpec, _Mapping]] = ...) -> None: ...

class SelectImagesResponse(_message.Message):
    __slots__ = ("progress", "selection")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    selection: _selection_pb2.Selection
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., selection: _Optional[_Union[_selection_pb2.Selection, _Mapping]] = ...) -> None: ...

class GetSelectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListSelectionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSelectionsResponse(_message.Message):
    __slots__ = ("selections", "next_page_token")
    SELECTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selections: _containers.RepeatedCompositeFieldContainer[_selection_pb2.Selection]
    next_page_token: str
    def __init__(self, selections: _Optional[_Iterable[_Union[_selection_pb2.Selection, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExportSelectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ExportSelectionResponse(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: _common_pb2.FileFrame
    def __init__(self, frame: _Optional[_Union[_common_pb2.FileFrame, _Mapping]] = ...) -> None: ...

class MatchImagesRequest(_message.Message):
    __slots__ = ("embedding", "labelled_manifests")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    LABELLED_MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    embedding: str
    labelled_manifests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, embedding: _Optional[str] = ..., labelled_manifests: _Optional[_Iterable[str]] = ...) -> None: ...

class MatchImagesResponse(_message.Message):
    __slots__ = ("progress", "match")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MATCH_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    match: _selection_pb2.Match
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., match: _Optional[_Union[_selection_pb2.Match, _Mapping]] = ...) -> None: ...

class GetMatchRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class EmbedImagesRequest(_message.Message):
    __slots__ = ("config", "image")
    class Config(_message.Message):
        __slots__ = ("classifier", "precision", "manifest")
        CLASSIFIER_FIELD_NUMBER: _ClassVar[int]
        PRECISION_FIELD_NUMBER: _ClassVar[int]
        MANIFEST_FIELD_NUMBER: _ClassVar[int]
        classifier: str
        precision: _common_pb2.Precision
        manifest: str
        def __init__(self, classifier: _Optional[str] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., manifest: _Optional[str] = ...) -> None: ...
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    config: EmbedImagesRequest.Config
    image: _common_pb2.InlineImage
    def __init__(self, config: _Optional[_Union[EmbedImagesRequest.Config, _Mapping]] = ..., image: _Optional[_Union[_common_pb2.InlineImage, _Mapping]] = ...) -> None: ...

class EmbedImagesResponse(_message.Message):
    __slots__ = ("id", "index", "status", "features")
    ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    id: str
    index: int
    status: _common_pb2.ItemStatus
    features: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, id: _Optional[str] = ..., index: _Optional[int] = ..., status: _Optional[_Union[_common_pb2.ItemStatus, _Mapping]] = ..., features: _Optional[_Iterable[float]] = ...) -> None: ...
