from genaug.v1 import classifier_pb2 as _classifier_pb2
from genaug.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EvaluationSettings(_message.Message):
    __slots__ = ("classifier", "updates", "seeds", "first_seed", "batch_size", "learning_rate", "resamples", "further", "folds", "training", "metrics")
    CLASSIFIER_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEED_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    RESAMPLES_FIELD_NUMBER: _ClassVar[int]
    FURTHER_FIELD_NUMBER: _ClassVar[int]
    FOLDS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    classifier: _classifier_pb2.ClassifierSpec
    updates: int
    seeds: int
    first_seed: int
    batch_size: int
    learning_rate: float
    resamples: int
    further: _containers.RepeatedCompositeFieldContainer[EvaluationSettings]
    folds: int
    training: _classifier_pb2.TrainingOptions
    metrics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, classifier: _Optional[_Union[_classifier_pb2.ClassifierSpec, _Mapping]] = ..., updates: _Optional[int] = ..., seeds: _Optional[int] = ..., first_seed: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., resamples: _Optional[int] = ..., further: _Optional[_Iterable[_Union[EvaluationSettings, _Mapping]]] = ..., folds: _Optional[int] = ..., training: _Optional[_Union[_classifier_pb2.TrainingOptions, _Mapping]] = ..., metrics: _Optional[_Iterable[str]] = ...) -> None: ...

class EvaluationSpec(_message.Message):
    __slots__ = ("name", "run", "dataset_versions", "evaluation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    DATASET_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    run: str
    dataset_versions: _containers.RepeatedScalarFieldContainer[str]
    evaluation: EvaluationSettings
    def __init__(self, name: _Optional[str] = ..., run: _Optional[str] = ..., dataset_versions: _Optional[_Iterable[str]] = ..., evaluation: _Optional[_Union[EvaluationSettings, _Mapping]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("name", "spec", "state", "scores", "comparisons", "verdict", "test_images", "test_subjects", "create_time", "provenance", "error", "reference_probe", "saturation")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Evaluation.State]
        STATE_RUNNING: _ClassVar[Evaluation.State]
        STATE_SUCCEEDED: _ClassVar[Evaluation.State]
        STATE_FAILED: _ClassVar[Evaluation.State]
    STATE_UNSPECIFIED: Evaluation.State
    STATE_RUNNING: Evaluation.State
    STATE_SUCCEEDED: Evaluation.State
    STATE_FAILED: Evaluation.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    TEST_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TEST_SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_PROBE_FIELD_NUMBER: _ClassVar[int]
    SATURATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: EvaluationSpec
    state: Evaluation.State
    scores: _containers.RepeatedCompositeFieldContainer[ScenarioScore]
    comparisons: _containers.RepeatedCompositeFieldContainer[Comparison]
    verdict: Verdict
    test_images: int
    test_subjects: int
    create_time: str
    provenance: _common_pb2.Provenance
    error: str
    reference_probe: ScenarioScore
    saturation: Saturation
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[EvaluationSpec, _Mapping]] = ..., state: _Optional[_Union[Evaluation.State, str]] = ..., scores: _Optional[_Iterable[_Union[ScenarioScore, _Mapping]]] = ..., comparisons: _Optional[_Iterable[_Union[Comparison, _Mapping]]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., test_images: _Optional[int] = ..., test_subjects: _Optional[int] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., error: _Optional[str] = ..., reference_probe: _Optional[_Union[ScenarioScore, _Mapping]] = ..., saturation: _Optional[_Union[Saturation, _Mapping]] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("value", "lower", "upper")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    value: float
    lower: float
    upper: float
    def __init__(self, value: _Optional[float] = ..., lower: _Optional[float] = ..., upper: _Optional[float] = ...) -> None: ...

class ScenarioScore(_message.Message):
    __slots__ = ("scenario", "dataset_version", "training_images", "macro_recall", "macro_precision", "macro_f1", "accuracy", "macro_auc", "recalls", "confusion", "seeds", "seed_macro_recalls", "specificities", "weighted_precision", "weighted_f1", "calibration_error", "macro_average_precision", "classes", "reliability", "made_images", "missing_images", "metrics")
    class RecallsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class SpecificitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Estimate
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Estimate, _Mapping]] = ...) -> None: ...
    class ClassScore(_message.Message):
        __slots__ = ("class_name", "images", "recall", "specificity", "precision", "f1", "auc", "average_precision", "roc")
        CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
        IMAGES_FIELD_NUMBER: _ClassVar[int]
        RECALL_FIELD_NUMBER: _ClassVar[int]
        SPECIFICITY_FIELD_NUMBER: _ClassVar[int]
        PRECISION_FIELD_NUMBER: _ClassVar[int]
        F1_FIELD_NUMBER: _ClassVar[int]
        AUC_FIELD_NUMBER: _ClassVar[int]
        AVERAGE_PRECISION_FIELD_NUMBER: _ClassVar[int]
        ROC_FIELD_NUMBER: _ClassVar[int]
        class_name: str
        images: int
        recall: Estimate
        specificity: float
        precision: float
        f1: float
        auc: float
        average_precision: float
        roc: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, class_name: _Optional[str] = ..., images: _Optional[int] = ..., recall: _Optional[_Union[Estimate, _Mapping]] = ..., specificity: _Optional[float] = ..., precision: _Optional[float] = ..., f1: _Optional[float] = ..., auc: _Optional[float] = ..., average_precision: _Optional[float] = ..., roc: _Optional[_Iterable[float]] = ...) -> None: ...
    class ReliabilityBin(_message.Message):
        __slots__ = ("share", "confidence", "accuracy")
        SHARE_FIELD_NUMBER: _ClassVar[int]
        CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
        ACCURACY_FIELD_NUMBER: _ClassVar[int]
        share: float
        confidence: float
        accuracy: float
        def __init__(self, share: _Optional[float] = ..., confidence: _Optional[float] = ..., accuracy: _Optional[float] = ...) -> None: ...
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    DATASET_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAINING_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MACRO_RECALL_FIELD_NUMBER: _ClassVar[int]
    MACRO_PRECISION_FIELD_NUMBER: _ClassVar[int]
    MACRO_F1_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MACRO_AUC_FIELD_NUMBER: _ClassVar[int]
    RECALLS_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    SEED_MACRO_RECALLS_FIELD_NUMBER: _ClassVar[int]
    SPECIFICITIES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_PRECISION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_F1_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    MACRO_AVERAGE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    RELIABILITY_FIELD_NUMBER: _ClassVar[int]
    MADE_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MISSING_IMAGES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    scenario: str
    dataset_version: str
    training_images: int
    macro_recall: Estimate
    macro_precision: Estimate
    macro_f1: Estimate
    accuracy: Estimate
    macro_auc: Estimate
    recalls: _containers.ScalarMap[str, float]
    confusion: _containers.RepeatedScalarFieldContainer[int]
    seeds: int
    seed_macro_recalls: _containers.RepeatedScalarFieldContainer[float]
    specificities: _containers.ScalarMap[str, float]
    weighted_precision: float
    weighted_f1: float
    calibration_error: float
    macro_average_precision: Estimate
    classes: _containers.RepeatedCompositeFieldContainer[ScenarioScore.ClassScore]
    reliability: _containers.RepeatedCompositeFieldContainer[ScenarioScore.ReliabilityBin]
    made_images: int
    missing_images: int
    metrics: _containers.MessageMap[str, Estimate]
    def __init__(self, scenario: _Optional[str] = ..., dataset_version: _Optional[str] = ..., training_images: _Optional[int] = ..., macro_recall: _Optional[_Union[Estimate, _Mapping]] = ..., macro_precision: _Optional[_Union[Estimate, _Mapping]] = ..., macro_f1: _Optional[_Union[Estimate, _Mapping]] = ..., accuracy: _Optional[_Union[Estimate, _Mapping]] = ..., macro_auc: _Optional[_Union[Estimate, _Mapping]] = ..., recalls: _Optional[_Mapping[str, float]] = ..., confusion: _Optional[_Iterable[int]] = ..., seeds: _Optional[int] = ..., seed_macro_recalls: _Optional[_Iterable[float]] = ..., specificities: _Optional[_Mapping[str, float]] = ..., weighted_precision: _Optional[float] = ..., weighted_f1: _Optional[float] = ..., calibration_error: _Optional[float] = ..., macro_average_precision: _Optional[_Union[Estimate, _Mapping]] = ..., classes: _Optional[_Iterable[_Union[ScenarioScore.ClassScore, _Mapping]]] = ..., reliability: _Optional[_Iterable[_Union[ScenarioScore.ReliabilityBin, _Mapping]]] = ..., made_images: _Optional[int] = ..., missing_images: _Optional[int] = ..., metrics: _Optional[_Mapping[str, Estimate]] = ...) -> None: ...

class Saturation(_message.Message):
    __slots__ = ("doses", "macro_recalls", "best_dose", "lower_dose", "upper_dose", "sentence")
    DOSES_FIELD_NUMBER: _ClassVar[int]
    MACRO_RECALLS_FIELD_NUMBER: _ClassVar[int]
    BEST_DOSE_FIELD_NUMBER: _ClassVar[int]
    LOWER_DOSE_FIELD_NUMBER: _ClassVar[int]
    UPPER_DOSE_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    doses: _containers.RepeatedScalarFieldContainer[float]
    macro_recalls: _containers.RepeatedCompositeFieldContainer[Estimate]
    best_dose: float
    lower_dose: float
    upper_dose: float
    sentence: str
    def __init__(self, doses: _Optional[_Iterable[float]] = ..., macro_recalls: _Optional[_Iterable[_Union[Estimate, _Mapping]]] = ..., best_dose: _Optional[float] = ..., lower_dose: _Optional[float] = ..., upper_dose: _Optional[float] = ..., sentence: _Optional[str] = ...) -> None: ...

class Comparison(_message.Message):
    __slots__ = ("scenario", "reference", "difference", "outcome")
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    scenario: str
    reference: str
    difference: Estimate
    outcome: Verdict.Outcome
    def __init__(self, scenario: _Optional[str] = ..., reference: _Optional[str] = ..., difference: _Optional[_Union[Estimate, _Mapping]] = ..., outcome: _Optional[_Union[Verdict.Outcome, str]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("outcome", "sentence")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Verdict.Outcome]
        OUTCOME_HELPS: _ClassVar[Verdict.Outcome]
        OUTCOME_NO_EVIDENCE: _ClassVar[Verdict.Outcome]
        OUTCOME_HURTS: _ClassVar[Verdict.Outcome]
    OUTCOME_UNSPECIFIED: Verdict.Outcome
    OUTCOME_HELPS: Verdict.Outcome
    OUTCOME_NO_EVIDENCE: Verdict.Outcome
    OUTCOME_HURTS: Verdict.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    outcome: Verdict.Outcome
    sentence: str
    def __init__(self, outcome: _Optional[_Union[Verdict.Outcome, str]] = ..., sentence: _Optional[str] = ...) -> None: ...
