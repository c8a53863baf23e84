from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import generator_spec_pb2 as _generator_spec_pb2
from genaug.v1 import sampler_pb2 as _sampler_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Generator(_message.Message):
    __slots__ = ("name", "classes", "spec", "dataset_version", "training", "image_size", "channels", "losses", "create_time", "provenance", "held_out_losses", "held_out", "sample_grids", "autoencoder_sha256", "base", "captions", "prompts", "closenesses", "stopped_at", "weights_sha256")
    class CaptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SampleGrid(_message.Message):
        __slots__ = ("update", "object")
        UPDATE_FIELD_NUMBER: _ClassVar[int]
        OBJECT_FIELD_NUMBER: _ClassVar[int]
        update: int
        object: str
        def __init__(self, update: _Optional[int] = ..., object: _Optional[str] = ...) -> None: ...
    class GridCloseness(_message.Message):
        __slots__ = ("update", "median", "natural_median", "memorized")
        UPDATE_FIELD_NUMBER: _ClassVar[int]
        MEDIAN_FIELD_NUMBER: _ClassVar[int]
        NATURAL_MEDIAN_FIELD_NUMBER: _ClassVar[int]
        MEMORIZED_FIELD_NUMBER: _ClassVar[int]
        update: int
        median: float
        natural_median: float
        memorized: float
        def __init__(self, update: _Optional[int] = ..., median: _Optional[float] = ..., natural_median: _Optional[float] = ..., memorized: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DATASET_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_LOSSES_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_GRIDS_FIELD_NUMBER: _ClassVar[int]
    AUTOENCODER_SHA256_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    CLOSENESSES_FIELD_NUMBER: _ClassVar[int]
    STOPPED_AT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    classes: _containers.RepeatedScalarFieldContainer[str]
    spec: _generator_spec_pb2.GeneratorSpec
    dataset_version: str
    training: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    image_size: int
    channels: int
    losses: _containers.RepeatedScalarFieldContainer[float]
    create_time: str
    provenance: _common_pb2.Provenance
    held_out_losses: _containers.RepeatedScalarFieldContainer[float]
    held_out: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    sample_grids: _containers.RepeatedCompositeFieldContainer[Generator.SampleGrid]
    autoencoder_sha256: str
    base: str
    captions: _containers.ScalarMap[str, str]
    prompts: str
    closenesses: _containers.RepeatedCompositeFieldContainer[Generator.GridCloseness]
    stopped_at: int
    weights_sha256: str
    def __init__(self, name: _Optional[str] = ..., classes: _Optional[_Iterable[str]] = ..., spec: _Optional[_Union[_generator_spec_pb2.GeneratorSpec, _Mapping]] = ..., dataset_version: _Optional[str] = ..., training: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., image_size: _Optional[int] = ..., channels: _Optional[int] = ..., losses: _Optional[_Iterable[float]] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., held_out_losses: _Optional[_Iterable[float]] = ..., held_out: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., sample_grids: _Optional[_Iterable[_Union[Generator.SampleGrid, _Mapping]]] = ..., autoencoder_sha256: _Optional[str] = ..., base: _Optional[str] = ..., captions: _Optional[_Mapping[str, str]] = ..., prompts: _Optional[str] = ..., closenesses: _Optional[_Iterable[_Union[Generator.GridCloseness, _Mapping]]] = ..., stopped_at: _Optional[int] = ..., weights_sha256: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("generator", "class_name", "seed", "index", "sampler", "bucket", "pixel_sha256", "parent_ids", "draw", "prompt", "base", "weights_sha256", "image_size", "revision", "device")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PIXEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    PARENT_IDS_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    generator: str
    class_name: str
    seed: int
    index: int
    sampler: _sampler_pb2.SamplerSettings
    bucket: int
    pixel_sha256: str
    parent_ids: _containers.RepeatedScalarFieldContainer[str]
    draw: str
    prompt: str
    base: str
    weights_sha256: str
    image_size: int
    revision: str
    device: str
    def __init__(self, generator: _Optional[str] = ..., class_name: _Optional[str] = ..., seed: _Optional[int] = ..., index: _Optional[int] = ..., sampler: _Optional[_Union[_sampler_pb2.SamplerSettings, _Mapping]] = ..., bucket: _Optional[int] = ..., pixel_sha256: _Optional[str] = ..., parent_ids: _Optional[_Iterable[str]] = ..., draw: _Optional[str] = ..., prompt: _Optional[str] = ..., base: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., image_size: _Optional[int] = ..., revision: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("name", "manifest", "counts", "drawn", "rejected")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    DRAWN_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest: str
    counts: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    drawn: int
    rejected: _containers.RepeatedCompositeFieldContainer[Rejection]
    def __init__(self, name: _Optional[str] = ..., manifest: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., drawn: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("class_name", "reason", "count")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Rejection.Reason]
        REASON_NOT_FINITE: _ClassVar[Rejection.Reason]
        REASON_CONSTANT: _ClassVar[Rejection.Reason]
        REASON_BLACK: _ClassVar[Rejection.Reason]
        REASON_DUPLICATE: _ClassVar[Rejection.Reason]
    REASON_UNSPECIFIED: Rejection.Reason
    REASON_NOT_FINITE: Rejection.Reason
    REASON_CONSTANT: Rejection.Reason
    REASON_BLACK: Rejection.Reason
    REASON_DUPLICATE: Rejection.Reason
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    reason: Rejection.Reason
    count: int
    def __init__(self, class_name: _Optional[str] = ..., reason: _Optional[_Union[Rejection.Reason, str]] = ..., count: _Optional[int] = ...) -> None: ...
