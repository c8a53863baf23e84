from genaug.v1 import classifier_pb2 as _classifier_pb2
from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import run_pb2 as _run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetClassifierRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListClassifiersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListClassifiersResponse(_message.Message):
    __slots__ = ("classifiers", "next_page_token")
    CLASSIFIERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    classifiers: _containers.RepeatedCompositeFieldContainer[_classifier_pb2.Classifier]
    next_page_token: str
    def __init__(self, classifiers: _Optional[_Iterable[_Union[_classifier_pb2.Classifier, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class LabelBatchRequest(_message.Message):
    __slots__ = ("classifier", "batch", "mode", "precision")
    CLASSIFIER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    classifier: str
    batch: str
    mode: _run_pb2.LabelingSpec.Mode
    precision: _common_pb2.Precision
    def __init__(self, classifier: _Optional[str] = ..., batch: _Optional[str] = ..., mode: _Optional[_Union[_run_pb2.LabelingSpec.Mode, str]] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ...) -> None: ...

class LabelBatchResponse(_message.Message):
    __slots__ = ("progress", "labelled_batch")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LABELLED_BATCH_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    labelled_batch: LabelledBatch
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., labelled_batch: _Optional[_Union[LabelledBatch, _Mapping]] = ...) -> None: ...

class LabelledBatch(_message.Message):
    __slots__ = ("name", "manifest", "acceptances", "kept", "disagreements")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCES_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest: str
    acceptances: _containers.RepeatedCompositeFieldContainer[Acceptance]
    kept: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    disagreements: _containers.RepeatedCompositeFieldContainer[Disagreement]
    def __init__(self, name: _Optional[str] = ..., manifest: _Optional[str] = ..., acceptances: _Optional[_Iterable[_Union[Acceptance, _Mapping]]] = ..., kept: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., disagreements: _Optional[_Iterable[_Union[Disagreement, _Mapping]]] = ...) -> None: ...

class Disagreement(_message.Message):
    __slots__ = ("class_name", "label", "count")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    label: str
    count: int
    def __init__(self, class_name: _Optional[str] = ..., label: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Acceptance(_message.Message):
    __slots__ = ("class_name", "accepted", "disagrees", "unsure", "degenerate")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DISAGREES_FIELD_NUMBER: _ClassVar[int]
    UNSURE_FIELD_NUMBER: _ClassVar[int]
    DEGENERATE_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    accepted: int
    disagrees: int
    unsure: int
    degenerate: int
    def __init__(self, class_name: _Optional[str] = ..., accepted: _Optional[int] = ..., disagrees: _Optional[int] = ..., unsure: _Optional[int] = ..., degenerate: _Optional[int] = ...) -> None: ...

class LabelImagesRequest(_message.Message):
    __slots__ = ("config", "image")
    class Config(_message.Message):
        __slots__ = ("classifier", "precision", "top_k", "manifest")
        CLASSIFIER_FIELD_NUMBER: _ClassVar[int]
        PRECISION_FIELD_NUMBER: _ClassVar[int]
        TOP_K_FIELD_NUMBER: _ClassVar[int]
        MANIFEST_FIELD_NUMBER: _ClassVar[int]
        classifier: str
        precision: _common_pb2.Precision
        top_k: int
        manifest: str
        def __init__(self, classifier: _Optional[str] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., top_k: _Optional[int] = ..., manifest: _Optional[str] = ...) -> None: ...
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    config: LabelImagesRequest.Config
    image: _common_pb2.InlineImage
    def __init__(self, config: _Optional[_Union[LabelImagesRequest.Config, _Mapping]] = ..., image: _Optional[_Union[_common_pb2.InlineImage, _Mapping]] = ...) -> None: ...

class LabelImagesResponse(_message.Message):
    __slots__ = ("id", "index", "status", "top", "sure")
    ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    SURE_FIELD_NUMBER: _ClassVar[int]
    id: str
    index: int
    status: _common_pb2.ItemStatus
    top: _containers.RepeatedCompositeFieldContainer[ClassProbability]
    sure: bool
    def __init__(self, id: _Optional[str] = ..., index: _Optional[int] = ..., status: _Optional[_Union[_common_pb2.ItemStatus, _Mapping]] = ..., top: _Optional[_Iterable[_Union[ClassProbability, _Mapping]]] = ..., sure: _Optional[bool] = ...) -> None: ...

class ClassProbability(_message.Message):
    __slots__ = ("class_name", "probability")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    probability: float
    def __init__(self, class_name: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class ExportClassifierRequest(_message.Message):
    __slots__ = ("name", "format", "precision")
    class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FORMAT_UNSPECIFIED: _ClassVar[ExportClassifierRequest.Format]
        FORMAT_TORCHSERVE: _ClassVar[ExportClassifierRequest.Format]
    FORMAT_UNSPECIFIED: ExportClassifierRequest.Format
    FORMAT_TORCHSERVE: ExportClassifierRequest.Format
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    format: ExportClassifierRequest.Format
    precision: _common_pb2.Precision
    def __init__(self, name: _Optional[str] = ..., format: _Optional[_Union[ExportClassifierRequest.Format, str]] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ...) -> None: ...

class ExportClassifierResponse(_message.Message):
    __slots__ = ("path", "data")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    path: str
    data: bytes
    def __init__(self, path: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...
