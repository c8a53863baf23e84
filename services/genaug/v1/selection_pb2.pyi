from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import run_pb2 as _run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Embedding(_message.Message):
    __slots__ = ("name", "object", "rows", "dimensions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    object: str
    rows: int
    dimensions: int
    def __init__(self, name: _Optional[str] = ..., object: _Optional[str] = ..., rows: _Optional[int] = ..., dimensions: _Optional[int] = ...) -> None: ...

class Selection(_message.Message):
    __slots__ = ("name", "manifest", "spec", "qualities", "create_time", "provenance")
    class Quality(_message.Message):
        __slots__ = ("class_name", "available", "kept", "mmd2", "random_mmd2", "coverage", "random_coverage", "alternatives")
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        AVAILABLE_FIELD_NUMBER: _ClassVar[int]
        KEPT_FIELD_NUMBER: _ClassVar[int]
        MMD2_FIELD_NUMBER: _ClassVar[int]
        RANDOM_MMD2_FIELD_NUMBER: _ClassVar[int]
        COVERAGE_FIELD_NUMBER: _ClassVar[int]
        RANDOM_COVERAGE_FIELD_NUMBER: _ClassVar[int]
        ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
        class_name: str
        available: int
        kept: int
        mmd2: float
        random_mmd2: float
        coverage: float
        random_coverage: float
        alternatives: _containers.RepeatedCompositeFieldContainer[Selection.Alternative]
        def __init__(self, class_name: _Optional[str] = ..., available: _Optional[int] = ..., kept: _Optional[int] = ..., mmd2: _Optional[float] = ..., random_mmd2: _Optional[float] = ..., coverage: _Optional[float] = ..., random_coverage: _Optional[float] = ..., alternatives: _Optional[_Iterable[_Union[Selection.Alternative, _Mapping]]] = ...) -> None: ...
    class Alternative(_message.Message):
        __slots__ = ("method", "mmd2", "coverage")
        METHOD_FIELD_NUMBER: _ClassVar[int]
        MMD2_FIELD_NUMBER: _ClassVar[int]
        COVERAGE_FIELD_NUMBER: _ClassVar[int]
        method: _run_pb2.SelectionSpec.Method
        mmd2: float
        coverage: float
        def __init__(self, method: _Optional[_Union[_run_pb2.SelectionSpec.Method, str]] = ..., mmd2: _Optional[float] = ..., coverage: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    QUALITIES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest: str
    spec: _run_pb2.SelectionSpec
    qualities: _containers.RepeatedCompositeFieldContainer[Selection.Quality]
    create_time: str
    provenance: _common_pb2.Provenance
    def __init__(self, name: _Optional[str] = ..., manifest: _Optional[str] = ..., spec: _Optional[_Union[_run_pb2.SelectionSpec, _Mapping]] = ..., qualities: _Optional[_Iterable[_Union[Selection.Quality, _Mapping]]] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ...) -> None: ...

class Match(_message.Message):
    __slots__ = ("name", "nearest_made", "nearest_real", "closenesses", "create_time", "provenance")
    class Closeness(_message.Message):
        __slots__ = ("class_name", "made", "made_median", "real_median", "copy_distance", "suspected_copies")
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        MADE_FIELD_NUMBER: _ClassVar[int]
        MADE_MEDIAN_FIELD_NUMBER: _ClassVar[int]
        REAL_MEDIAN_FIELD_NUMBER: _ClassVar[int]
        COPY_DISTANCE_FIELD_NUMBER: _ClassVar[int]
        SUSPECTED_COPIES_FIELD_NUMBER: _ClassVar[int]
        class_name: str
        made: int
        made_median: float
        real_median: float
        copy_distance: float
        suspected_copies: int
        def __init__(self, class_name: _Optional[str] = ..., made: _Optional[int] = ..., made_median: _Optional[float] = ..., real_median: _Optional[float] = ..., copy_distance: _Optional[float] = ..., suspected_copies: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEAREST_MADE_FIELD_NUMBER: _ClassVar[int]
    NEAREST_REAL_FIELD_NUMBER: _ClassVar[int]
    CLOSENESSES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    nearest_made: str
    nearest_real: str
    closenesses: _containers.RepeatedCompositeFieldContainer[Match.Closeness]
    create_time: str
    provenance: _common_pb2.Provenance
    def __init__(self, name: _Optional[str] = ..., nearest_made: _Optional[str] = ..., nearest_real: _Optional[str] = ..., closenesses: _Optional[_Iterable[_Union[Match.Closeness, _Mapping]]] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ...) -> None: ...
