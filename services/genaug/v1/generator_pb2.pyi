from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import run_pb2 as _run_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Generator(_message.Message):
    __slots__ = ("name", "classes", "spec", "dataset_version", "training", "image_size", "channels", "losses", "create_time", "provenance", "held_out_losses", "held_out", "sample_grids", "autoencoder_sha256")
    class SampleGrid(_message.Message):
        __slots__ = ("update", "object")
        UPDATE_FIELD_NUMBER: _ClassVar[int]
        OBJECT_FIELD_NUMBER: _ClassVar[int]
        update: int
        object: str
        def __init__(self, update: _Optional[int] = ..., object: _Optional[str] = ...) -> None: ...
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
    name: str
    classes: _containers.RepeatedScalarFieldContainer[str]
    spec: _run_pb2.GeneratorSpec
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
    def __init__(self, name: _Optional[str] = ..., classes: _Optional[_Iterable[str]] = ..., spec: _Optional[_Union[_run_pb2.GeneratorSpec, _Mapping]] = ..., dataset_version: _Optional[str] = ..., training: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., image_size: _Optional[int] = ..., channels: _Optional[int] = ..., losses: _Optional[_Iterable[float]] = ..., create_time: _Optional[str] = ..., provenance: _Optional[_Union[_common_pb2.Provenance, _Mapping]] = ..., held_out_losses: _Optional[_Iterable[float]] = ..., held_out: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., sample_grids: _Optional[_Iterable[_Union[Generator.SampleGrid, _Mapping]]] = ..., autoencoder_sha256: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("generator", "class_name", "seed", "index", "sampler", "bucket", "pixel_sha256", "parent_ids", "draw")
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    PIXEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    PARENT_IDS_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    generator: str
    class_name: str
    seed: int
    index: int
    sampler: SamplerSettings
    bucket: int
    pixel_sha256: str
    parent_ids: _containers.RepeatedScalarFieldContainer[str]
    draw: str
    def __init__(self, generator: _Optional[str] = ..., class_name: _Optional[str] = ..., seed: _Optional[int] = ..., index: _Optional[int] = ..., sampler: _Optional[_Union[SamplerSettings, _Mapping]] = ..., bucket: _Optional[int] = ..., pixel_sha256: _Optional[str] = ..., parent_ids: _Optional[_Iterable[str]] = ..., draw: _Optional[str] = ...) -> None: ...

class SamplerSettings(_message.Message):
    __slots__ = ("steps", "guidance_scale")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    steps: int
    guidance_scale: float
    def __init__(self, steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("name", "manifest", "counts", "drawn")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    DRAWN_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest: str
    counts: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    drawn: int
    def __init__(self, name: _Optional[str] = ..., manifest: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., drawn: _Optional[int] = ...) -> None: ...
