from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import dataset_pb2 as _dataset_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Classifier(_message.Message):
    __slots__ = ("name", "classes", "spec", "dataset_version", "role", "seed", "updates", "best_update", "macro_recall", "temperature", "thresholds", "create_time", "provenance", "window")
    class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ROLE_UNSPECIFIED: _ClassVar[Classifier.Role]
        ROLE_LABELER: _ClassVar[Classifier.Role]
        ROLE_EVALUATOR: _ClassVar[Classifier.Role]
    ROLE_UNSPECIFIED: Classifier.Role
    ROLE_LABELER: Classifier.Role
    ROLE_EVALUATOR: Classifier.Role
    class ThresholdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATASET_VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    BEST_UPDATE_FIELD_NUMBER: _ClassVar[int]
    MACRO_RECALL_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    name: str
    classes: _containers.RepeatedScalarFieldContainer[str]
    spec: ClassifierSpec
    dataset_version: str
    role: Classifier.Role
    seed: int
    updates: int
    best_update: int
    macro_recall: float
    temperature: float
    thresholds: _containers.ScalarMap[str, float]
    create_time: str
    provenance: _common_pb2.Provenance
    window: _dataset_pb2.Window
    def __init__(self, name: _Optional[str] = ..., classes: _Optional[_Iterable[str]] = ..., spec: _Optional[_Union[ClassifierSpec, _Mapping]] = ..., dataset_version: _Optional[str] = ..., role: _Optional[_Union[Classifier.Role, str]] = ..., seed: _Optional[int] = ..., updates: _Optional[int] = ..., best_update: _Optional[int] = ..., macro_recall: _Optional[float] = ..., temperature: _Optional[float] = ..., thresholds: _Optional[_Mapping[str, float]] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., window: _Optional[_Union[_dataset_pb2.Window, _Mapping]] = ...) -> None: ...

class ClassifierSpec(_message.Message):
    __slots__ = ("backbone", "image_size", "tuning", "head", "weights", "pre_resize")
    class Tuning(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TUNING_UNSPECIFIED: _ClassVar[ClassifierSpec.Tuning]
        TUNING_FROZEN: _ClassVar[ClassifierSpec.Tuning]
        TUNING_FINE_TUNED: _ClassVar[ClassifierSpec.Tuning]
    TUNING_UNSPECIFIED: ClassifierSpec.Tuning
    TUNING_FROZEN: ClassifierSpec.Tuning
    TUNING_FINE_TUNED: ClassifierSpec.Tuning
    class Head(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        HEAD_UNSPECIFIED: _ClassVar[ClassifierSpec.Head]
        HEAD_LINEAR: _ClassVar[ClassifierSpec.Head]
        HEAD_PUBLISHED: _ClassVar[ClassifierSpec.Head]
        HEAD_LOGISTIC: _ClassVar[ClassifierSpec.Head]
        HEAD_DENSE: _ClassVar[ClassifierSpec.Head]
    HEAD_UNSPECIFIED: ClassifierSpec.Head
    HEAD_LINEAR: ClassifierSpec.Head
    HEAD_PUBLISHED: ClassifierSpec.Head
    HEAD_LOGISTIC: ClassifierSpec.Head
    HEAD_DENSE: ClassifierSpec.Head
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TUNING_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    PRE_RESIZE_FIELD_NUMBER: _ClassVar[int]
    backbone: str
    image_size: int
    tuning: ClassifierSpec.Tuning
    head: ClassifierSpec.Head
    weights: str
    pre_resize: int
    def __init__(self, backbone: _Optional[str] = ..., image_size: _Optional[int] = ..., tuning: _Optional[_Union[ClassifierSpec.Tuning, str]] = ..., head: _Optional[_Union[ClassifierSpec.Head, str]] = ..., weights: _Optional[str] = ..., pre_resize: _Optional[int] = ...) -> None: ...

class TrainingOptions(_message.Message):
    __slots__ = ("precision", "decay", "class_weights", "augment")
    class Decay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DECAY_UNSPECIFIED: _ClassVar[TrainingOptions.Decay]
        DECAY_COSINE: _ClassVar[TrainingOptions.Decay]
        DECAY_PLATEAU: _ClassVar[TrainingOptions.Decay]
    DECAY_UNSPECIFIED: TrainingOptions.Decay
    DECAY_COSINE: TrainingOptions.Decay
    DECAY_PLATEAU: TrainingOptions.Decay
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    AUGMENT_FIELD_NUMBER: _ClassVar[int]
    precision: _common_pb2.Precision
    decay: TrainingOptions.Decay
    class_weights: bool
    augment: _common_pb2.TransformSpec
    def __init__(self, precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., decay: _Optional[_Union[TrainingOptions.Decay, str]] = ..., class_weights: _Optional[bool] = ..., augment: _Optional[_Union[_common_pb2.TransformSpec, _Mapping]] = ...) -> None: ...
