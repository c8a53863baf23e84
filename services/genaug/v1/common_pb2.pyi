from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_BFLOAT16: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_BFLOAT16: Precision
PRECISION_INT8: Precision

class Progress(_message.Message):
    __slots__ = ("step", "done", "total", "unit", "seconds_left", "note", "steps", "steps_total", "queue_position")
    STEP_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    QUEUE_POSITION_FIELD_NUMBER: _ClassVar[int]
    step: str
    done: int
    total: int
    unit: str
    seconds_left: float
    note: str
    steps: int
    steps_total: int
    queue_position: int
    def __init__(self, step: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., seconds_left: _Optional[float] = ..., note: _Optional[str] = ..., steps: _Optional[int] = ..., steps_total: _Optional[int] = ..., queue_position: _Optional[int] = ...) -> None: ...

class ClassCount(_message.Message):
    __slots__ = ("class_name", "count")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    count: int
    def __init__(self, class_name: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class FileFrame(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("recipe", "version", "revision", "libraries", "seconds")
    class LibrariesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LIBRARIES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    recipe: str
    version: str
    revision: str
    libraries: _containers.ScalarMap[str, str]
    seconds: float
    def __init__(self, recipe: _Optional[str] = ..., version: _Optional[str] = ..., revision: _Optional[str] = ..., libraries: _Optional[_Mapping[str, str]] = ..., seconds: _Optional[float] = ...) -> None: ...

class InlineImage(_message.Message):
    __slots__ = ("id", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    data: bytes
    def __init__(self, id: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class ItemStatus(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class TransformSpec(_message.Message):
    __slots__ = ("horizontal_flip", "rotate_degrees", "shift", "scale", "color")
    HORIZONTAL_FLIP_FIELD_NUMBER: _ClassVar[int]
    ROTATE_DEGREES_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    COLOR_FIELD_NUMBER: _ClassVar[int]
    horizontal_flip: bool
    rotate_degrees: float
    shift: float
    scale: float
    color: float
    def __init__(self, horizontal_flip: _Optional[bool] = ..., rotate_degrees: _Optional[float] = ..., shift: _Optional[float] = ..., scale: _Optional[float] = ..., color: _Optional[float] = ...) -> None: ...
