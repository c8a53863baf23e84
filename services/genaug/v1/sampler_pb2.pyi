from genaug.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SamplerSettings(_message.Message):
    __slots__ = ("steps", "guidance_scale", "scheduler", "negative_prompt", "image_size", "strength", "profile", "precision")
    class Profile(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PROFILE_UNSPECIFIED: _ClassVar[SamplerSettings.Profile]
        PROFILE_FULL: _ClassVar[SamplerSettings.Profile]
        PROFILE_TURBO: _ClassVar[SamplerSettings.Profile]
    PROFILE_UNSPECIFIED: SamplerSettings.Profile
    PROFILE_FULL: SamplerSettings.Profile
    PROFILE_TURBO: SamplerSettings.Profile
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    steps: int
    guidance_scale: float
    scheduler: str
    negative_prompt: str
    image_size: int
    strength: float
    profile: SamplerSettings.Profile
    precision: _common_pb2.Precision
    def __init__(self, steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., scheduler: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., image_size: _Optional[int] = ..., strength: _Optional[float] = ..., profile: _Optional[_Union[SamplerSettings.Profile, str]] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ...) -> None: ...
