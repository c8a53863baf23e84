from genaug.v1 import common_pb2 as _common_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GeneratorSpec(_message.Message):
    __slots__ = ("image_size", "seed", "class_conditional", "stable_diffusion", "transforms", "plugin")
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CLASS_CONDITIONAL_FIELD_NUMBER: _ClassVar[int]
    STABLE_DIFFUSION_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMS_FIELD_NUMBER: _ClassVar[int]
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    image_size: int
    seed: int
    class_conditional: ClassConditionalSpec
    stable_diffusion: StableDiffusionSpec
    transforms: _common_pb2.TransformSpec
    plugin: PluginSpec
    def __init__(self, image_size: _Optional[int] = ..., seed: _Optional[int] = ..., class_conditional: _Optional[_Union[ClassConditionalSpec, _Mapping]] = ..., stable_diffusion: _Optional[_Union[StableDiffusionSpec, _Mapping]] = ..., transforms: _Optional[_Union[_common_pb2.TransformSpec, _Mapping]] = ..., plugin: _Optional[_Union[PluginSpec, _Mapping]] = ...) -> None: ...

class PluginSpec(_message.Message):
    __slots__ = ("name", "settings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    settings: _struct_pb2.Struct
    def __init__(self, name: _Optional[str] = ..., settings: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ClassConditionalSpec(_message.Message):
    __slots__ = ("train_steps", "batch_size", "learning_rate", "ema_decay", "precision", "horizontal_flip", "held_out", "sample_grids", "base_channels", "prediction", "patch_size", "autoencoder")
    class Prediction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PREDICTION_UNSPECIFIED: _ClassVar[ClassConditionalSpec.Prediction]
        PREDICTION_V: _ClassVar[ClassConditionalSpec.Prediction]
        PREDICTION_EPSILON: _ClassVar[ClassConditionalSpec.Prediction]
        PREDICTION_IMAGE: _ClassVar[ClassConditionalSpec.Prediction]
    PREDICTION_UNSPECIFIED: ClassConditionalSpec.Prediction
    PREDICTION_V: ClassConditionalSpec.Prediction
    PREDICTION_EPSILON: ClassConditionalSpec.Prediction
    PREDICTION_IMAGE: ClassConditionalSpec.Prediction
    TRAIN_STEPS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    EMA_DECAY_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    HORIZONTAL_FLIP_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_GRIDS_FIELD_NUMBER: _ClassVar[int]
    BASE_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    PATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    AUTOENCODER_FIELD_NUMBER: _ClassVar[int]
    train_steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float
    precision: _common_pb2.Precision
    horizontal_flip: bool
    held_out: float
    sample_grids: int
    base_channels: int
    prediction: ClassConditionalSpec.Prediction
    patch_size: int
    autoencoder: str
    def __init__(self, train_steps: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., ema_decay: _Optional[float] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., horizontal_flip: _Optional[bool] = ..., held_out: _Optional[float] = ..., sample_grids: _Optional[int] = ..., base_channels: _Optional[int] = ..., prediction: _Optional[_Union[ClassConditionalSpec.Prediction, str]] = ..., patch_size: _Optional[int] = ..., autoencoder: _Optional[str] = ...) -> None: ...

class StableDiffusionSpec(_message.Message):
    __slots__ = ("base", "method", "preset", "train_steps", "batch_size", "learning_rate", "ema_decay", "precision", "horizontal_flip", "held_out", "sample_grids", "prompts", "captions", "compared_prompts", "weights", "lora", "text_encoder", "dreambooth", "accumulation", "gradient_checkpointing", "min_snr", "eight_bit_adam", "decay", "memorized", "keep_latents")
    class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        METHOD_UNSPECIFIED: _ClassVar[StableDiffusionSpec.Method]
        METHOD_LORA: _ClassVar[StableDiffusionSpec.Method]
        METHOD_DREAMBOOTH: _ClassVar[StableDiffusionSpec.Method]
    METHOD_UNSPECIFIED: StableDiffusionSpec.Method
    METHOD_LORA: StableDiffusionSpec.Method
    METHOD_DREAMBOOTH: StableDiffusionSpec.Method
    class Preset(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PRESET_UNSPECIFIED: _ClassVar[StableDiffusionSpec.Preset]
        PRESET_PUBLISHED: _ClassVar[StableDiffusionSpec.Preset]
    PRESET_UNSPECIFIED: StableDiffusionSpec.Preset
    PRESET_PUBLISHED: StableDiffusionSpec.Preset
    class Weights(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        WEIGHTS_UNSPECIFIED: _ClassVar[StableDiffusionSpec.Weights]
        WEIGHTS_ADAPTER: _ClassVar[StableDiffusionSpec.Weights]
        WEIGHTS_ALL: _ClassVar[StableDiffusionSpec.Weights]
    WEIGHTS_UNSPECIFIED: StableDiffusionSpec.Weights
    WEIGHTS_ADAPTER: StableDiffusionSpec.Weights
    WEIGHTS_ALL: StableDiffusionSpec.Weights
    class Decay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DECAY_UNSPECIFIED: _ClassVar[StableDiffusionSpec.Decay]
        DECAY_COSINE: _ClassVar[StableDiffusionSpec.Decay]
        DECAY_CONSTANT: _ClassVar[StableDiffusionSpec.Decay]
    DECAY_UNSPECIFIED: StableDiffusionSpec.Decay
    DECAY_COSINE: StableDiffusionSpec.Decay
    DECAY_CONSTANT: StableDiffusionSpec.Decay
    class CaptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    BASE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    TRAIN_STEPS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    EMA_DECAY_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    HORIZONTAL_FLIP_FIELD_NUMBER: _ClassVar[int]
    HELD_OUT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_GRIDS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    CAPTIONS_FIELD_NUMBER: _ClassVar[int]
    COMPARED_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LORA_FIELD_NUMBER: _ClassVar[int]
    TEXT_ENCODER_FIELD_NUMBER: _ClassVar[int]
    DREAMBOOTH_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATION_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    MIN_SNR_FIELD_NUMBER: _ClassVar[int]
    EIGHT_BIT_ADAM_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    MEMORIZED_FIELD_NUMBER: _ClassVar[int]
    KEEP_LATENTS_FIELD_NUMBER: _ClassVar[int]
    base: str
    method: StableDiffusionSpec.Method
    preset: StableDiffusionSpec.Preset
    train_steps: int
    batch_size: int
    learning_rate: float
    ema_decay: float
    precision: _common_pb2.Precision
    horizontal_flip: bool
    held_out: float
    sample_grids: int
    prompts: str
    captions: _containers.ScalarMap[str, str]
    compared_prompts: str
    weights: StableDiffusionSpec.Weights
    lora: LoraSpec
    text_encoder: bool
    dreambooth: DreamBoothSpec
    accumulation: int
    gradient_checkpointing: bool
    min_snr: float
    eight_bit_adam: bool
    decay: StableDiffusionSpec.Decay
    memorized: float
    keep_latents: bool
    def __init__(self, base: _Optional[str] = ..., method: _Optional[_Union[StableDiffusionSpec.Method, str]] = ..., preset: _Optional[_Union[StableDiffusionSpec.Preset, str]] = ..., train_steps: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., ema_decay: _Optional[float] = ..., precision: _Optional[_Union[_common_pb2.Precision, str]] = ..., horizontal_flip: _Optional[bool] = ..., held_out: _Optional[float] = ..., sample_grids: _Optional[int] = ..., prompts: _Optional[str] = ..., captions: _Optional[_Mapping[str, str]] = ..., compared_prompts: _Optional[str] = ..., weights: _Optional[_Union[StableDiffusionSpec.Weights, str]] = ..., lora: _Optional[_Union[LoraSpec, _Mapping]] = ..., text_encoder: _Optional[bool] = ..., dreambooth: _Optional[_Union[DreamBoothSpec, _Mapping]] = ..., accumulation: _Optional[int] = ..., gradient_checkpointing: _Optional[bool] = ..., min_snr: _Optional[float] = ..., eight_bit_adam: _Optional[bool] = ..., decay: _Optional[_Union[StableDiffusionSpec.Decay, str]] = ..., memorized: _Optional[float] = ..., keep_latents: _Optional[bool] = ...) -> None: ...

class LoraSpec(_message.Message):
    __slots__ = ("rank", "alpha", "targets")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    rank: int
    alpha: float
    targets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rank: _Optional[int] = ..., alpha: _Optional[float] = ..., targets: _Optional[_Iterable[str]] = ...) -> None: ...

class DreamBoothSpec(_message.Message):
    __slots__ = ("token", "prior_caption", "prior_images", "prior_weight", "per_class")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PRIOR_CAPTION_FIELD_NUMBER: _ClassVar[int]
    PRIOR_IMAGES_FIELD_NUMBER: _ClassVar[int]
    PRIOR_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PER_CLASS_FIELD_NUMBER: _ClassVar[int]
    token: str
    prior_caption: str
    prior_images: int
    prior_weight: float
    per_class: bool
    def __init__(self, token: _Optional[str] = ..., prior_caption: _Optional[str] = ..., prior_images: _Optional[int] = ..., prior_weight: _Optional[float] = ..., per_class: _Optional[bool] = ...) -> None: ...
