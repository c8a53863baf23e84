from genaug.v1 import common_pb2 as _common_pb2
from genaug.v1 import generator_pb2 as _generator_pb2
from genaug.v1 import sampler_pb2 as _sampler_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetGeneratorRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListGeneratorsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGeneratorsResponse(_message.Message):
    __slots__ = ("generators", "next_page_token")
    GENERATORS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    generators: _containers.RepeatedCompositeFieldContainer[_generator_pb2.Generator]
    next_page_token: str
    def __init__(self, generators: _Optional[_Iterable[_Union[_generator_pb2.Generator, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GenerateImagesRequest(_message.Message):
    __slots__ = ("generator", "counts", "seed", "first_index", "sampler", "output", "format")
    class Output(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTPUT_UNSPECIFIED: _ClassVar[GenerateImagesRequest.Output]
        OUTPUT_STORE: _ClassVar[GenerateImagesRequest.Output]
        OUTPUT_INLINE: _ClassVar[GenerateImagesRequest.Output]
    OUTPUT_UNSPECIFIED: GenerateImagesRequest.Output
    OUTPUT_STORE: GenerateImagesRequest.Output
    OUTPUT_INLINE: GenerateImagesRequest.Output
    class Format(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FORMAT_UNSPECIFIED: _ClassVar[GenerateImagesRequest.Format]
        FORMAT_PNG: _ClassVar[GenerateImagesRequest.Format]
        FORMAT_JPEG: _ClassVar[GenerateImagesRequest.Format]
    FORMAT_UNSPECIFIED: GenerateImagesRequest.Format
    FORMAT_PNG: GenerateImagesRequest.Format
    FORMAT_JPEG: GenerateImagesRequest.Format
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    generator: str
    counts: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassCount]
    seed: int
    first_index: int
    sampler: _sampler_pb2.SamplerSettings
    output: GenerateImagesRequest.Output
    format: GenerateImagesRequest.Format
    def __init__(self, generator: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[_common_pb2.ClassCount, _Mapping]]] = ..., seed: _Optional[int] = ..., first_index: _Optional[int] = ..., sampler: _Optional[_Union[_sampler_pb2.SamplerSettings, _Mapping]] = ..., output: _Optional[_Union[GenerateImagesRequest.Output, str]] = ..., format: _Optional[_Union[GenerateImagesRequest.Format, str]] = ...) -> None: ...

class GenerateImagesResponse(_message.Message):
    __slots__ = ("progress", "image", "batch", "rejected")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    progress: _common_pb2.Progress
    image: GeneratedImage
    batch: _generator_pb2.Batch
    rejected: RejectedDraw
    def __init__(self, progress: _Optional[_Union[_common_pb2.Progress, _Mapping]] = ..., image: _Optional[_Union[GeneratedImage, _Mapping]] = ..., batch: _Optional[_Union[_generator_pb2.Batch, _Mapping]] = ..., rejected: _Optional[_Union[RejectedDraw, _Mapping]] = ...) -> None: ...

class GeneratedImage(_message.Message):
    __slots__ = ("data", "receipt")
    DATA_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    receipt: _generator_pb2.Receipt
    def __init__(self, data: _Optional[bytes] = ..., receipt: _Optional[_Union[_generator_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RejectedDraw(_message.Message):
    __slots__ = ("reason", "receipt")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    reason: _generator_pb2.Rejection.Reason
    receipt: _generator_pb2.Receipt
    def __init__(self, reason: _Optional[_Union[_generator_pb2.Rejection.Reason, str]] = ..., receipt: _Optional[_Union[_generator_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RegenerateImageRequest(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: _generator_pb2.Receipt
    def __init__(self, receipt: _Optional[_Union[_generator_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RegenerateImageResponse(_message.Message):
    __slots__ = ("image", "same_pixels")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SAME_PIXELS_FIELD_NUMBER: _ClassVar[int]
    image: GeneratedImage
    same_pixels: bool
    def __init__(self, image: _Optional[_Union[GeneratedImage, _Mapping]] = ..., same_pixels: _Optional[bool] = ...) -> None: ...
