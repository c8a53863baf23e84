from genaug.v1 import classifier_pb2 as _classifier_pb2
from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import dataset_pb2 as _dataset_pb2
from genaug.v1 import evaluation_pb2 as _evaluation_pb2
from genaug.v1 import generator_spec_pb2 as _generator_spec_pb2
from genaug.v1 import sampler_pb2 as _sampler_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunSpec(_message.Message):
    __slots__ = ("name", "dataset", "classes", "multi_disease", "generator", "generation", "labeling", "selection", "scenarios", "evaluation", "transforms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    IMPORT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    MULTI_DISEASE_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    LABELING_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    SCENARIOS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dataset: str
    classes: _containers.RepeatedScalarFieldContainer[str]
    multi_disease: _dataset_pb2.View.MultiDisease
    generator: _generator_spec_pb2.GeneratorSpec
    generation: GenerationSpec
    labeling: LabelingSpec
    selection: SelectionSpec
    scenarios: _containers.RepeatedCompositeFieldContainer[Scenario]
    evaluation: _evaluation_pb2.EvaluationSettings
    transforms: _common_pb2.TransformSpec
    def __init__(self, name: _Optional[str] = ..., dataset: _Optional[str] = ..., classes: _Optional[_Iterable[str]] = ..., multi_disease: _Optional[_Union[_dataset_pb2.View.MultiDisease, str]] = ..., generator: _Optional[_Union[_generator_spec_pb2.GeneratorSpec, _Mapping]] = ..., generation: _Optional[_Union[GenerationSpec, _Mapping]] = ..., labeling: _Optional[_Union[LabelingSpec, _Mapping]] = ..., selection: _Optional[_Union[SelectionSpec, _Mapping]] = ..., scenarios: _Optional[_Iterable[_Union[Scenario, _Mapping]]] = ..., evaluation: _Optional[_Union[_evaluation_pb2.EvaluationSettings, _Mapping]] = ..., transforms: _Optional[_Union[_common_pb2.TransformSpec, _Mapping]] = ..., **kwargs) -> None: ...

class ImportSpec(_message.Message):
    __slots__ = ("format", "images", "csv", "split", "folds", "seed", "keep", "subject_regex", "filename_column", "class_column", "subject_column", "split_column", "bits", "window", "multi_label", "class_columns", "no_subject", "on_conflict", "near_duplicates", "ignore_split")
    class NoSubject(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NO_SUBJECT_UNSPECIFIED: _ClassVar[ImportSpec.NoSubject]
        NO_SUBJECT_REFUSE: _ClassVar[ImportSpec.NoSubject]
        NO_SUBJECT_OWN: _ClassVar[ImportSpec.NoSubject]
    NO_SUBJECT_UNSPECIFIED: ImportSpec.NoSubject
    NO_SUBJECT_REFUSE: ImportSpec.NoSubject
    NO_SUBJECT_OWN: ImportSpec.NoSubject
    class OnConflict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ON_CONFLICT_UNSPECIFIED: _ClassVar[ImportSpec.OnConflict]
        ON_CONFLICT_REFUSE: _ClassVar[ImportSpec.OnConflict]
        ON_CONFLICT_DROP_TRAINING: _ClassVar[ImportSpec.OnConflict]
        ON_CONFLICT_DROP_VALIDATION: _ClassVar[ImportSpec.OnConflict]
    ON_CONFLICT_UNSPECIFIED: ImportSpec.OnConflict
    ON_CONFLICT_REFUSE: ImportSpec.OnConflict
    ON_CONFLICT_DROP_TRAINING: ImportSpec.OnConflict
    ON_CONFLICT_DROP_VALIDATION: ImportSpec.OnConflict
    class NearDuplicates(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NEAR_DUPLICATES_UNSPECIFIED: _ClassVar[ImportSpec.NearDuplicates]
        NEAR_DUPLICATES_JOIN: _ClassVar[ImportSpec.NearDuplicates]
        NEAR_DUPLICATES_REPORT: _ClassVar[ImportSpec.NearDuplicates]
        NEAR_DUPLICATES_OFF: _ClassVar[ImportSpec.NearDuplicates]
    NEAR_DUPLICATES_UNSPECIFIED: ImportSpec.NearDuplicates
    NEAR_DUPLICATES_JOIN: ImportSpec.NearDuplicates
    NEAR_DUPLICATES_REPORT: ImportSpec.NearDuplicates
    NEAR_DUPLICATES_OFF: ImportSpec.NearDuplicates
    class KeepEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CSV_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    FOLDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_REGEX_FIELD_NUMBER: _ClassVar[int]
    FILENAME_COLUMN_FIELD_NUMBER: _ClassVar[int]
    CLASS_COLUMN_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_COLUMN_FIELD_NUMBER: _ClassVar[int]
    SPLIT_COLUMN_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    MULTI_LABEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    NO_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
    NEAR_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    IGNORE_SPLIT_FIELD_NUMBER: _ClassVar[int]
    format: str
    images: str
    csv: str
    split: _containers.RepeatedScalarFieldContainer[float]
    folds: int
    seed: int
    keep: _containers.ScalarMap[str, int]
    subject_regex: str
    filename_column: str
    class_column: str
    subject_column: str
    split_column: str
    bits: int
    window: _containers.RepeatedScalarFieldContainer[float]
    multi_label: bool
    class_columns: _containers.RepeatedScalarFieldContainer[str]
    no_subject: ImportSpec.NoSubject
    on_conflict: ImportSpec.OnConflict
    near_duplicates: ImportSpec.NearDuplicates
    ignore_split: bool
    def __init__(self, format: _Optional[str] = ..., images: _Optional[str] = ..., csv: _Optional[str] = ..., split: _Optional[_Iterable[float]] = ..., folds: _Optional[int] = ..., seed: _Optional[int] = ..., keep: _Optional[_Mapping[str, int]] = ..., subject_regex: _Optional[str] = ..., filename_column: _Optional[str] = ..., class_column: _Optional[str] = ..., subject_column: _Optional[str] = ..., split_column: _Optional[str] = ..., bits: _Optional[int] = ..., window: _Optional[_Iterable[float]] = ..., multi_label: _Optional[bool] = ..., class_columns: _Optional[_Iterable[str]] = ..., no_subject: _Optional[_Union[ImportSpec.NoSubject, str]] = ..., on_conflict: _Optional[_Union[ImportSpec.OnConflict, str]] = ..., near_duplicates: _Optional[_Union[ImportSpec.NearDuplicates, str]] = ..., ignore_split: _Optional[bool] = ...) -> None: ...

class GenerationSpec(_message.Message):
    __slots__ = ("steps", "guidance_scale", "seed", "rounds", "draw_limit", "scheduler", "negative_prompt", "strength", "profile", "precision", "keep_copies")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    DRAW_LIMIT_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    KEEP_COPIES_FIELD_NUMBER: _ClassVar[int]
    steps: int
    guidance_scale: float
    seed: int
    rounds: int
    draw_limit: float
    scheduler: str
    negative_prompt: str
    strength: float
    profile: _sampler_pb2.SamplerSettings.Profile
    precision: _common_pb2.Precision
    keep_copies: bool
    def __init__(self, steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., seed: _Optional[int] = ..., rounds: _Optional[int] = ..., draw_limit: _Optional[float] = ..., scheduler: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., strength: _Optional[float] = ..., profile: _Optional[_Union[_sampler_pb2.SamplerSettings.Profile, str]] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., keep_copies: _Optional[bool] = ...) -> None: ...

class LabelingSpec(_message.Message):
    __slots__ = ("mode", "classifier", "updates", "seed", "precision", "training", "learning_rate", "batch_size", "second_seed")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[LabelingSpec.Mode]
        MODE_AGREE: _ClassVar[LabelingSpec.Mode]
        MODE_TRUST_LABELER: _ClassVar[LabelingSpec.Mode]
        MODE_TRUST_PROMPT: _ClassVar[LabelingSpec.Mode]
    MODE_UNSPECIFIED: LabelingSpec.Mode
    MODE_AGREE: LabelingSpec.Mode
    MODE_TRUST_LABELER: LabelingSpec.Mode
    MODE_TRUST_PROMPT: LabelingSpec.Mode
    MODE_FIELD_NUMBER: _ClassVar[int]
    CLASSIFIER_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SECOND_SEED_FIELD_NUMBER: _ClassVar[int]
    mode: LabelingSpec.Mode
    classifier: _classifier_pb2.ClassifierSpec
    updates: int
    seed: int
    precision: _common_pb2.Precision
    training: _classifier_pb2.TrainingOptions
    learning_rate: float
    batch_size: int
    second_seed: int
    def __init__(self, mode: _Optional[_Union[LabelingSpec.Mode, str]] = ..., classifier: _Optional[_Union[_classifier_pb2.ClassifierSpec, _Mapping]] = ..., updates: _Optional[int] = ..., seed: _Optional[int] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., training: _Optional[_Union[_classifier_pb2.TrainingOptions, _Mapping]] = ..., learning_rate: _Optional[float] = ..., batch_size: _Optional[int] = ..., second_seed: _Optional[int] = ...) -> None: ...

class SelectionSpec(_message.Message):
    __slots__ = ("classes", "method", "kept", "seed")
    class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        METHOD_UNSPECIFIED: _ClassVar[SelectionSpec.Method]
        METHOD_TSNE_GRID: _ClassVar[SelectionSpec.Method]
        METHOD_RANDOM: _ClassVar[SelectionSpec.Method]
        METHOD_HERDING: _ClassVar[SelectionSpec.Method]
        METHOD_K_CENTER: _ClassVar[SelectionSpec.Method]
    METHOD_UNSPECIFIED: SelectionSpec.Method
    METHOD_TSNE_GRID: SelectionSpec.Method
    METHOD_RANDOM: SelectionSpec.Method
    METHOD_HERDING: SelectionSpec.Method
    METHOD_K_CENTER: SelectionSpec.Method
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    classes: _containers.RepeatedScalarFieldContainer[str]
    method: SelectionSpec.Method
    kept: int
    seed: int
    def __init__(self, classes: _Optional[_Iterable[str]] = ..., method: _Optional[_Union[SelectionSpec.Method, str]] = ..., kept: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class Scenario(_message.Message):
    __slots__ = ("name", "synthetic", "transformed", "sampling", "reduction")
    class Sampling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SAMPLING_UNSPECIFIED: _ClassVar[Scenario.Sampling]
        SAMPLING_NATURAL: _ClassVar[Scenario.Sampling]
        SAMPLING_CLASS_BALANCED: _ClassVar[Scenario.Sampling]
    SAMPLING_UNSPECIFIED: Scenario.Sampling
    SAMPLING_NATURAL: Scenario.Sampling
    SAMPLING_CLASS_BALANCED: Scenario.Sampling
    class Reduction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REDUCTION_UNSPECIFIED: _ClassVar[Scenario.Reduction]
        REDUCTION_SELECTED: _ClassVar[Scenario.Reduction]
        REDUCTION_RANDOM: _ClassVar[Scenario.Reduction]
        REDUCTION_NONE: _ClassVar[Scenario.Reduction]
    REDUCTION_UNSPECIFIED: Scenario.Reduction
    REDUCTION_SELECTED: Scenario.Reduction
    REDUCTION_RANDOM: Scenario.Reduction
    REDUCTION_NONE: Scenario.Reduction
    NAME_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    synthetic: float
    transformed: float
    sampling: Scenario.Sampling
    reduction: Scenario.Reduction
    def __init__(self, name: _Optional[str] = ..., synthetic: _Optional[float] = ..., transformed: _Optional[float] = ..., sampling: _Optional[_Union[Scenario.Sampling, str]] = ..., reduction: _Optional[_Union[Scenario.Reduction, str]] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("name", "spec", "state", "steps", "error", "evaluation", "verdict", "create_time", "end_time", "further_evaluations", "traceparent")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Run.State]
        STATE_PENDING: _ClassVar[Run.State]
        STATE_RUNNING: _ClassVar[Run.State]
        STATE_SUCCEEDED: _ClassVar[Run.State]
        STATE_FAILED: _ClassVar[Run.State]
        STATE_CANCELLED: _ClassVar[Run.State]
    STATE_UNSPECIFIED: Run.State
    STATE_PENDING: Run.State
    STATE_RUNNING: Run.State
    STATE_SUCCEEDED: Run.State
    STATE_FAILED: Run.State
    STATE_CANCELLED: Run.State
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    FURTHER_EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: RunSpec
    state: Run.State
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    error: str
    evaluation: str
    verdict: _evaluation_pb2.Verdict
    create_time: str
    end_time: str
    further_evaluations: _containers.RepeatedScalarFieldContainer[str]
    traceparent: str
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[RunSpec, _Mapping]] = ..., state: _Optional[_Union[Run.State, str]] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., error: _Optional[str] = ..., evaluation: _Optional[str] = ..., verdict: _Optional[_Union[_evaluation_pb2.Verdict, _Mapping]] = ..., create_time: _Optional[str] = ..., end_time: _Optional[str] = ..., further_evaluations: _Optional[_Iterable[str]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("name", "state", "progress", "seconds", "reused", "results")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: Run.State
    progress: _common_pb2.Progress
    seconds: float
    reused: int
    results: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[Run.State, str]] = ..., progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., seconds: _Optional[float] = ..., reused: _Optional[int] = ..., results: _Optional[_Iterable[str]] = ...) -> None: ...
