from genaug.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dataset(_message.Message):
    __slots__ = ("name", "digest", "format", "seed", "split", "folds", "training", "validation", "test", "subjects", "subjects_on_two_sides", "joined_groups", "dropped", "near_duplicates", "create_time", "provenance", "median_side", "channels", "own_split", "window", "passed_over", "notes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    FOLDS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_ON_TWO_SIDES_FIELD_NUMBER: _ClassVar[int]
    JOINED_GROUPS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_SIDE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    OWN_SPLIT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    PASSED_OVER_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    format: str
    seed: int
    split: _containers.RepeatedScalarFieldContainer[float]
    folds: int
    training: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    validation: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    test: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    subjects: int
    subjects_on_two_sides: int
    joined_groups: int
    dropped: _containers.RepeatedCompositeFieldContainer[DroppedImage]
    near_duplicates: _containers.RepeatedCompositeFieldContainer[NearDuplicate]
    create_time: str
    provenance: _common_pb2.Provenance
    median_side: int
    channels: int
    own_split: bool
    window: Window
    passed_over: _containers.RepeatedCompositeFieldContainer[PassedOver]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., format: _Optional[str] = ..., seed: _Optional[int] = ..., split: _Optional[_Iterable[float]] = ..., folds: _Optional[int] = ..., training: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., validation: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., test: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., subjects: _Optional[int] = ..., subjects_on_two_sides: _Optional[int] = ..., joined_groups: _Optional[int] = ..., dropped: _Optional[_Iterable[_Union[DroppedImage, _Mapping]]] = ..., near_duplicates: _Optional[_Iterable[_Union[NearDuplicate, _Mapping]]] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., median_side: _Optional[int] = ..., channels: _Optional[int] = ..., own_split: _Optional[bool] = ..., window: _Optional[_Union[Window, _Mapping]] = ..., passed_over: _Optional[_Iterable[_Union[PassedOver, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("low", "high", "rule")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    rule: str
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., rule: _Optional[str] = ...) -> None: ...

class PassedOver(_message.Message):
    __slots__ = ("reason", "count")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    count: int
    def __init__(self, reason: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class DroppedImage(_message.Message):
    __slots__ = ("image_id", "reason", "detail", "row", "class_name")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    reason: str
    detail: str
    row: int
    class_name: str
    def __init__(self, image_id: _Optional[str] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ..., row: _Optional[int] = ..., class_name: _Optional[str] = ...) -> None: ...

class NearDuplicate(_message.Message):
    __slots__ = ("image_id", "other_image_id", "correlation")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    OTHER_IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    other_image_id: str
    correlation: float
    def __init__(self, image_id: _Optional[str] = ..., other_image_id: _Optional[str] = ..., correlation: _Optional[float] = ...) -> None: ...

class DatasetVersion(_message.Message):
    __slots__ = ("name", "digest", "manifest", "real", "synthetic", "transformed", "validation", "shortfall", "create_time", "view")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMED_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    SHORTFALL_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    manifest: str
    real: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    synthetic: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    transformed: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    validation: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    shortfall: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    create_time: str
    view: View
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., manifest: _Optional[str] = ..., real: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., synthetic: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., transformed: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., validation: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., shortfall: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., create_time: _Optional[str] = ..., view: _Optional[_Union[View, _Mapping]] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("classes", "multi_disease", "fold")
    class MultiDisease(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MULTI_DISEASE_UNSPECIFIED: _ClassVar[View.MultiDisease]
        MULTI_DISEASE_EXCLUDE: _ClassVar[View.MultiDisease]
        MULTI_DISEASE_PRIMARY: _ClassVar[View.MultiDisease]
        MULTI_DISEASE_KEEP: _ClassVar[View.MultiDisease]
    MULTI_DISEASE_UNSPECIFIED: View.MultiDisease
    MULTI_DISEASE_EXCLUDE: View.MultiDisease
    MULTI_DISEASE_PRIMARY: View.MultiDisease
    MULTI_DISEASE_KEEP: View.MultiDisease
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    MULTI_DISEASE_FIELD_NUMBER: _ClassVar[int]
    FOLD_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedScalarFieldContainer[str]
    multi_disease: View.MultiDisease
    fold: int
    def __init__(self, classes: _Optional[_Iterable[str]] = ..., multi_disease: _Optional[_Union[View.MultiDisease, str]] = ..., fold: _Optional[int] = ...) -> None: ...

class DatasetDescription(_message.Message):
    __slots__ = ("dataset", "classes", "attributes", "multi_disease", "duplicates", "near_duplicates", "images_per_subject", "measures", "leakage_estimate", "alarms", "shortcuts", "imbalance_ratio", "histograms", "defects")
    class Alarm(_message.Message):
        __slots__ = ("reason", "sentence", "class_name")
        REASON_FIELD_NUMBER: _ClassVar[int]
        SENTENCE_FIELD_NUMBER: _ClassVar[int]
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        reason: str
        sentence: str
        class_name: str
        def __init__(self, reason: _Optional[str] = ..., sentence: _Optional[str] = ..., class_name: _Optional[str] = ...) -> None: ...
    class Shortcut(_message.Message):
        __slots__ = ("properties", "accuracy", "lower", "upper", "chance", "class_name", "class_accuracy", "class_lower", "tells")
        PROPERTIES_FIELD_NUMBER: _ClassVar[int]
        ACCURACY_FIELD_NUMBER: _ClassVar[int]
        LOWER_FIELD_NUMBER: _ClassVar[int]
        UPPER_FIELD_NUMBER: _ClassVar[int]
        CHANCE_FIELD_NUMBER: _ClassVar[int]
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        CLASS_ACCURACY_FIELD_NUMBER: _ClassVar[int]
        CLASS_LOWER_FIELD_NUMBER: _ClassVar[int]
        TELLS_FIELD_NUMBER: _ClassVar[int]
        properties: str
        accuracy: float
        lower: float
        upper: float
        chance: float
        class_name: str
        class_accuracy: float
        class_lower: float
        tells: bool
        def __init__(self, properties: _Optional[str] = ..., accuracy: _Optional[float] = ..., lower: _Optional[float] = ..., upper: _Optional[float] = ..., chance: _Optional[float] = ..., class_name: _Optional[str] = ..., class_accuracy: _Optional[float] = ..., class_lower: _Optional[float] = ..., tells: _Optional[bool] = ...) -> None: ...
    class Histogram(_message.Message):
        __slots__ = ("class_name", "shares")
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        SHARES_FIELD_NUMBER: _ClassVar[int]
        class_name: str
        shares: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, class_name: _Optional[str] = ..., shares: _Optional[_Iterable[float]] = ...) -> None: ...
    class Defects(_message.Message):
        __slots__ = ("class_name", "images", "dropped", "blurred", "blank")
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        IMAGES_FIELD_NUMBER: _ClassVar[int]
        DROPPED_FIELD_NUMBER: _ClassVar[int]
        BLURRED_FIELD_NUMBER: _ClassVar[int]
        BLANK_FIELD_NUMBER: _ClassVar[int]
        class_name: str
        images: int
        dropped: int
        blurred: int
        blank: int
        def __init__(self, class_name: _Optional[str] = ..., images: _Optional[int] = ..., dropped: _Optional[int] = ..., blurred: _Optional[int] = ..., blank: _Optional[int] = ...) -> None: ...
    class Tally(_message.Message):
        __slots__ = ("class_name", "training", "validation", "test", "subjects")
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        TRAINING_FIELD_NUMBER: _ClassVar[int]
        VALIDATION_FIELD_NUMBER: _ClassVar[int]
        TEST_FIELD_NUMBER: _ClassVar[int]
        SUBJECTS_FIELD_NUMBER: _ClassVar[int]
        class_name: str
        training: int
        validation: int
        test: int
        subjects: int
        def __init__(self, class_name: _Optional[str] = ..., training: _Optional[int] = ..., validation: _Optional[int] = ..., test: _Optional[int] = ..., subjects: _Optional[int] = ...) -> None: ...
    class Attribute(_message.Message):
        __slots__ = ("name", "values")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        name: str
        values: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Value]
        def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[_Union[DatasetDescription.Value, _Mapping]]] = ...) -> None: ...
    class Value(_message.Message):
        __slots__ = ("value", "counts")
        VALUE_FIELD_NUMBER: _ClassVar[int]
        COUNTS_FIELD_NUMBER: _ClassVar[int]
        value: str
        counts: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
        def __init__(self, value: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ...) -> None: ...
    class Measure(_message.Message):
        __slots__ = ("name", "class_name", "percentiles")
        NAME_FIELD_NUMBER: _ClassVar[int]
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        PERCENTILES_FIELD_NUMBER: _ClassVar[int]
        name: str
        class_name: str
        percentiles: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, name: _Optional[str] = ..., class_name: _Optional[str] = ..., percentiles: _Optional[_Iterable[float]] = ...) -> None: ...
    class LeakageEstimate(_message.Message):
        __slots__ = ("splits", "leaked", "leaked_lowest", "leaked_highest", "subjects_on_two_sides")
        SPLITS_FIELD_NUMBER: _ClassVar[int]
        LEAKED_FIELD_NUMBER: _ClassVar[int]
        LEAKED_LOWEST_FIELD_NUMBER: _ClassVar[int]
        LEAKED_HIGHEST_FIELD_NUMBER: _ClassVar[int]
        SUBJECTS_ON_TWO_SIDES_FIELD_NUMBER: _ClassVar[int]
        splits: int
        leaked: float
        leaked_lowest: float
        leaked_highest: float
        subjects_on_two_sides: float
        def __init__(self, splits: _Optional[int] = ..., leaked: _Optional[float] = ..., leaked_lowest: _Optional[float] = ..., leaked_highest: _Optional[float] = ..., subjects_on_two_sides: _Optional[float] = ...) -> None: ...
    DATASET_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    MULTI_DISEASE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_PER_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    LEAKAGE_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    SHORTCUTS_FIELD_NUMBER: _ClassVar[int]
    IMBALANCE_RATIO_FIELD_NUMBER: _ClassVar[int]
    HISTOGRAMS_FIELD_NUMBER: _ClassVar[int]
    DEFECTS_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    classes: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Tally]
    attributes: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Attribute]
    multi_disease: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    duplicates: int
    near_duplicates: int
    images_per_subject: _containers.RepeatedScalarFieldContainer[int]
    measures: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Measure]
    leakage_estimate: DatasetDescription.LeakageEstimate
    alarms: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Alarm]
    shortcuts: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Shortcut]
    imbalance_ratio: float
    histograms: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Histogram]
    defects: _containers.RepeatedCompositeFieldContainer[DatasetDescription.Defects]
    def __init__(self, dataset: _Optional[str] = ..., classes: _Optional[_Iterable[_Union[DatasetDescription.Tally, _Mapping]]] = ..., attributes: _Optional[_Iterable[_Union[DatasetDescription.Attribute, _Mapping]]] = ..., multi_disease: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., duplicates: _Optional[int] = ..., near_duplicates: _Optional[int] = ..., images_per_subject: _Optional[_Iterable[int]] = ..., measures: _Optional[_Iterable[_Union[DatasetDescription.Measure, _Mapping]]] = ..., leakage_estimate: _Optional[_Union[DatasetDescription.LeakageEstimate, _Mapping]] = ..., alarms: _Optional[_Iterable[_Union[DatasetDescription.Alarm, _Mapping]]] = ..., shortcuts: _Optional[_Iterable[_Union[DatasetDescription.Shortcut, _Mapping]]] = ..., imbalance_ratio: _Optional[float] = ..., histograms: _Optional[_Iterable[_Union[DatasetDescription.Histogram, _Mapping]]] = ..., defects: _Optional[_Iterable[_Union[DatasetDescription.Defects, _Mapping]]] = ...) -> None: ...
