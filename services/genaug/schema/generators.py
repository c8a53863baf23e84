"""Generator specifications: a union by kind, the registry of kinds, and the records of generators and draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field, JsonValue, model_validator

from genaug.schema.captions import caption_problems
from genaug.schema.common import (
    MAX_IMAGE_SIDE,
    BatchSize,
    ClassCount,
    LearningRate,
    Precision,
    Provenance,
    Seed,
    TransformSpec,
    Updates,
)
from genaug.schema.model import Model, Within, parse, problem
from genaug.schema.registry import Registry
from genaug.schema.sampling import Sampler

Problems = Iterator[tuple[str, str]]
"""(field, problem) pairs."""
EmaDecay = Annotated[float, Within(0, 0.99999)]
HeldOut = Annotated[float, Within(0, 0.5)]


class Prediction(StrEnum):
    """Prediction target of a diffusion network."""

    V = "PREDICTION_V"
    EPSILON = "PREDICTION_EPSILON"
    IMAGE = "PREDICTION_IMAGE"


class Method(StrEnum):
    """Fine-tuning method of Stable Diffusion."""

    LORA = "METHOD_LORA"
    DREAMBOOTH = "METHOD_DREAMBOOTH"


class Preset(StrEnum):
    """Settings of a published study."""

    PUBLISHED = "PRESET_PUBLISHED"


class TrainedWeights(StrEnum):
    """Weights that fine-tuning changes."""

    ADAPTER = "WEIGHTS_ADAPTER"
    ALL = "WEIGHTS_ALL"


class Decay(StrEnum):
    """Learning-rate schedule of a generator's training."""

    COSINE = "DECAY_COSINE"
    CONSTANT = "DECAY_CONSTANT"


class ClassConditionalSpec(Model):
    """Settings of a class-conditional diffusion model trained from scratch."""

    MAX_PIXELS: ClassVar[int] = 64
    """Largest side that is drawn in pixels; larger images are drawn in an autoencoder's latents."""
    MAX_VELOCITY: ClassVar[int] = 32
    """Largest side at which the velocity is predicted by default. Measured: above it a patch has more values than a
    small network has channels, and their noise stays in the image."""

    train_steps: Updates = 800
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 0.003
    ema_decay: EmaDecay = 0.995
    precision: Precision = Precision.FLOAT32
    horizontal_flip: bool = False
    held_out: HeldOut = 0.05
    sample_grids: Annotated[int, Within(0, 50)] = 4
    base_channels: Annotated[int, Within(8, 512)] = 32
    prediction: Prediction | None = None
    patch_size: Annotated[int, Within(0, 4)] = 0
    autoencoder: str = ""

    @model_validator(mode="after")
    def _check(self) -> ClassConditionalSpec:
        if self.base_channels % 8:
            raise problem("base_channels", f"{self.base_channels} is not a multiple of 8")
        if self.patch_size not in (0, 1, 2, 4):
            raise problem("patch_size", f"{self.patch_size} is none of 0 (automatic), 1, 2, 4")
        _check_precision(self.precision)
        return self

    def fitting_size(self, median_side: int) -> int:
        """Image size for a dataset whose images have this median side, pixels."""
        step, largest = (16, 128) if self.autoencoder else (8, self.MAX_PIXELS)
        return max(step, min(largest, median_side // step * step))

    def size_problems(self, image_size: int) -> Problems:
        """Why this size cannot be drawn."""
        step, largest = (16, MAX_IMAGE_SIDE) if self.autoencoder else (8, self.MAX_PIXELS)
        if not self.autoencoder and image_size > self.MAX_PIXELS:
            yield (
                "image_size",
                f"{image_size} is above {self.MAX_PIXELS}, where images are drawn in an autoencoder's latents; name "
                "the folder of its weights in generator.class_conditional.autoencoder",
            )
        elif image_size % step or not step <= image_size <= largest:
            yield "image_size", f"{image_size} is not a multiple of {step} within {step} and {largest}"
        elif self.patch_size and not self.autoencoder and image_size // self.patch_size < 4:
            yield (
                "class_conditional.patch_size",
                f"{self.patch_size} leaves fewer than 4 patches a side of {image_size}",
            )

    def completed(self, image_size: int) -> ClassConditionalSpec:
        """With the fields whose defaults depend on the image size."""
        fitting = Prediction.V if image_size <= self.MAX_VELOCITY else Prediction.IMAGE
        return self.model_copy(update={"prediction": self.prediction or fitting})


class LoraSpec(Model):
    """A low-rank adapter (Hu et al. 2021)."""

    rank: Annotated[int, Within(1, 512)] = 8
    alpha: Annotated[float, Within(0, 1024)] = 0.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("alpha"):
            return {**value, "alpha": float(value.get("rank", cls.model_fields["rank"].default))}
        return value


class DreamBoothSpec(Model):
    """DreamBooth (Ruiz et al. 2023, arXiv:2208.12242)."""

    token: str = "sks"  # noqa: S105  # a caption's token
    prior_caption: str = "a photograph"
    prior_images: Annotated[int, Within(0, 10_000)] = 50
    prior_weight: Annotated[float, Within(0, 100)] = 1.0
    per_class: bool = False


# Aktas et al. 2024, reconstructed from the notebook whose packages it lists (ShivamShrirao's DreamBooth).
_PUBLISHED: dict[str, Any] = {
    "method": Method.DREAMBOOTH,
    "weights": TrainedWeights.ALL,
    "text_encoder": True,
    "train_steps": 800,
    "batch_size": 1,
    "learning_rate": 0.000001,
    "decay": Decay.CONSTANT,
    "ema_decay": 0.0,
    "min_snr": 0.0,
    "memorized": 1.0,
    "eight_bit_adam": True,
    "precision": Precision.BFLOAT16,
    "dreambooth": {"prior_images": 50, "prior_weight": 1.0, "per_class": True},
}
_PUBLISHED_SIZE, _PUBLISHED_SEED = 512, 1337


class StableDiffusionSpec(Model):
    """Settings of a Stable Diffusion base that is fine-tuned on captioned images."""

    USUAL_SIDE: ClassVar[int] = 512
    """Side that bases were trained at, pixels."""

    base: str = ""
    method: Method = Method.LORA
    preset: Preset | None = None
    train_steps: Updates = 800
    batch_size: BatchSize = 4
    learning_rate: LearningRate = 0.0001
    ema_decay: EmaDecay = 0.99
    precision: Precision = Precision.FLOAT32
    horizontal_flip: bool = False
    held_out: HeldOut = 0.05
    sample_grids: Annotated[int, Within(0, 50)] = 4
    prompts: str = "disease-specific"
    captions: dict[str, str] = {}
    compared_prompts: str = ""
    weights: TrainedWeights = TrainedWeights.ADAPTER
    lora: LoraSpec | None = None
    text_encoder: bool = False
    dreambooth: DreamBoothSpec | None = None
    accumulation: Annotated[int, Within(1, 4096)] = 1
    gradient_checkpointing: bool = False
    min_snr: Annotated[float, Within(0, 1000)] = 5.0
    eight_bit_adam: bool = False
    decay: Decay = Decay.COSINE
    # Names of generators are digests in which this field is spelt "memorised".
    memorized: Annotated[float, Within(0, 1)] = Field(0.25, serialization_alias="memorised")
    keep_latents: bool = False

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = dict(value)
        if value.get("preset") == Preset.PUBLISHED:
            dreambooth = {**_PUBLISHED["dreambooth"], **(value.get("dreambooth") or {})}
            value = {**_PUBLISHED, **value, "dreambooth": dreambooth}
            if value["method"] != Method.DREAMBOOTH:
                del value["dreambooth"]
        if value.get("weights", TrainedWeights.ADAPTER) == TrainedWeights.ADAPTER:
            value["lora"] = value.get("lora") or {}
        if value.get("method") == Method.DREAMBOOTH:
            value["dreambooth"] = value.get("dreambooth") or {}
        return value

    @model_validator(mode="after")
    def _check(self) -> StableDiffusionSpec:
        if not self.base:
            raise problem(
                "base",
                "name the Stable Diffusion model to start from: a directory in diffusers' layout, bases/{digest} of "
                "the store, or an id of the Hub",
            )
        if self.weights == TrainedWeights.ALL and self.lora:
            raise problem("lora", "weights ALL has no adapter; leave one of both out")
        if self.method != Method.DREAMBOOTH and self.dreambooth:
            raise problem("dreambooth", "is for method DREAMBOOTH")
        if self.batch_size % self.accumulation:
            raise problem("accumulation", f"{self.accumulation} does not divide batch_size {self.batch_size} evenly")
        if self.compared_prompts == self.prompts and not self.captions:
            raise problem("compared_prompts", f"{self.prompts!r} is what prompts has; name another set")
        _check_precision(self.precision)
        return self

    def fitting_size(self, median_side: int) -> int:
        """Image size for a dataset whose images have this median side, pixels."""
        if self.preset == Preset.PUBLISHED:
            return _PUBLISHED_SIZE
        return max(64, min(self.USUAL_SIDE, median_side // 64 * 64))

    def size_problems(self, image_size: int) -> Problems:
        """Why this size cannot be drawn; the base's own multiple is known to the trainer alone."""
        if image_size % 8 or not 8 <= image_size <= MAX_IMAGE_SIDE:
            yield "image_size", f"{image_size} is not a multiple of 8 within 8 and {MAX_IMAGE_SIDE}"

    def caption_problems(self, classes: Sequence[str]) -> Problems:
        """Why captions cannot be had for `classes`."""
        yield from caption_problems(self.prompts, classes, own=self.captions)
        if self.compared_prompts:
            for _, text in caption_problems(self.compared_prompts, classes, own={}):
                yield "compared_prompts", text


def _check_precision(precision: Precision) -> None:
    if precision == Precision.INT8:
        raise problem("precision", "8 bits are for labeling; there are FLOAT32 and BFLOAT16")


class PluginSpec(Model):
    """A registered extension and its settings."""

    name: str = ""
    settings: dict[str, JsonValue] = {}


@dataclass(frozen=True)
class GeneratorKind:
    """An entry of the registry of generator kinds; light, so that the orchestrator can check run files.

    A kind's settings model may have `fitting_size(median_side)` and `size_problems(image_size)`, as
    `ClassConditionalSpec` does; without them, any multiple of 8 is drawn.
    """

    settings: type[Model]
    implementation: str
    """ "module:attribute" of the `genaug.generation.generators.Kind` that trains and loads it."""
    sampler: Sampler | None
    """Default sampler settings; None for a kind that has none."""
    prompted: bool = False
    """Whether it takes `negative_prompt`, `strength` and another `image_size` than its own."""
    chunk: int = 64
    """Images of a chunk of work above 16 pixels: some tens of seconds on a small CPU."""
    learns: bool = True
    """Whether it has a training, with held-out subjects and losses."""


GENERATORS: Registry[GeneratorKind] = Registry(
    "genaug.generators",
    "generator kind",
    {
        "class_conditional": GeneratorKind(
            ClassConditionalSpec, "genaug.generation.generators.class_conditional:KIND", Sampler()
        ),
        "stable_diffusion": GeneratorKind(
            StableDiffusionSpec,
            "genaug.generation.generators.stable_diffusion:KIND",
            Sampler(steps=25, guidance_scale=7.5),
            prompted=True,
            chunk=16,
        ),
        "transforms": GeneratorKind(TransformSpec, "genaug.generation.generators.transforms:KIND", None, learns=False),
    },
)
_BUILTIN = ("class_conditional", "stable_diffusion", "transforms")


class GeneratorSpec(Model):
    """A generator: its kind, and the settings that all kinds share. Exactly one kind is set."""

    image_size: Annotated[int, Within(0, MAX_IMAGE_SIDE)] = 0
    seed: Seed | None = None
    class_conditional: ClassConditionalSpec | None = None
    stable_diffusion: StableDiffusionSpec | None = None
    transforms: TransformSpec | None = None
    plugin: PluginSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = from_flat_form(value) if "kind" in value else value
        return value if any(value.get(name) is not None for name in (*_BUILTIN, "plugin")) else {
            **value, "class_conditional": {}
        }  # fmt: skip

    @model_validator(mode="after")
    def _check(self) -> GeneratorSpec:
        given = [name for name in (*_BUILTIN, "plugin") if getattr(self, name) is not None]
        if len(given) > 1:
            raise problem(given[1], f"a generator has one kind, and {given[0]} is given too; leave one out")
        if self.plugin:
            if self.plugin.name not in GENERATORS.names():
                raise problem("plugin.name", GENERATORS.unknown(self.plugin.name))
            self.settings  # noqa: B018  # checked by the extension's model
        return self

    @property
    def kind_name(self) -> str:
        """Name of the kind in the registry."""
        return self.plugin.name if self.plugin else next(name for name in _BUILTIN if getattr(self, name) is not None)

    @property
    def kind(self) -> GeneratorKind:
        """Entry of the kind in the registry."""
        return GENERATORS.get(self.kind_name, path="generator.plugin.name")

    @property
    def settings(self) -> Model:
        """Settings of the kind."""
        if self.plugin:
            return parse(self.kind.settings, self.plugin.settings, path="generator.plugin.settings")
        return cast(Model, getattr(self, self.kind_name))

    def fitting_size(self, median_side: int) -> int:
        """`image_size`, or the size that fits a dataset whose images have this median side."""
        fitting = getattr(self.settings, "fitting_size", lambda side: max(8, min(64, side // 8 * 8)))
        return self.image_size or int(fitting(median_side))

    def size_problems(self, image_size: int) -> Problems:
        """Why this size cannot be drawn: (field, problem)."""
        own = getattr(self.settings, "size_problems", None)
        if own:
            yield from own(image_size)
        elif image_size % 8 or image_size < 8:
            yield "image_size", f"{image_size} is not a multiple of 8 from 8 to {MAX_IMAGE_SIDE}"

    def completed(self, image_size: int) -> GeneratorSpec:
        """With every default written out, for this image size."""
        published = self.stable_diffusion and self.stable_diffusion.preset == Preset.PUBLISHED
        seed = self.seed if self.seed is not None else _PUBLISHED_SEED if published else 0
        update: dict[str, Any] = {"image_size": image_size, "seed": seed}
        if self.class_conditional:
            update["class_conditional"] = self.class_conditional.completed(image_size)
        return self.model_copy(update=update)

    def trained_form(self) -> GeneratorSpec:
        """Without settings that do not change the trained weights."""
        if self.stable_diffusion is None:
            return self
        spec = self.stable_diffusion.model_copy(update={"compared_prompts": "", "preset": None})
        return self.model_copy(update={"stable_diffusion": spec})

    def digest_form(self) -> dict[str, Any]:
        """The JSON whose digest names generators (recipe finetune/3): one flat mapping, with the kind as a word."""
        flat: dict[str, Any] = {
            "kind": f"KIND_{self.kind_name.upper()}",
            "image_size": self.image_size,
            "seed": self.seed,
        }
        settings = self.settings.model_dump(mode="json", exclude_none=True, by_alias=True)
        if self.transforms:
            return flat | {"transforms": settings}
        # Empty texts of a base's settings were never written out.
        return flat | (
            {key: value for key, value in settings.items() if value not in ("", {})}
            if self.stable_diffusion
            else settings
        )


_SHARED = ("image_size", "seed")


def from_flat_form(value: Mapping[str, Any]) -> dict[str, Any]:
    """A generator specification of releases before 0.6, one flat mapping with the key `kind`, in today's form."""
    word = str(value.get("kind") or "CLASS_CONDITIONAL").removeprefix("KIND_").lower()
    shared = {key: value[key] for key in _SHARED if key in value}
    renamed = {"memorised": "memorized"}
    if word not in _BUILTIN:
        raise problem("kind", f"{value['kind']!r} is unknown; there are {', '.join(_BUILTIN)}")
    own = {renamed.get(key, key): item for key, item in value.items() if key not in (*_SHARED, "kind", "transforms")}
    if word == "transforms":
        own = {{"colour": "color"}.get(key, key): item for key, item in value.get("transforms", {}).items()}
    return {**shared, word: own}


class SampleGrid(Model):
    """A grid of samples drawn during training."""

    update: int = 0
    object: str = ""


class GridMemorization(Model):
    """Distances from a grid's samples to training images: 1 minus the correlation of their pixels at 32×32."""

    update: int = 0
    median: float = 0.0
    natural_median: float = 0.0
    memorized: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, value: Any) -> Any:
        """Read records of releases before 0.6, in which `memorized` is spelt "remembered"."""
        renamed = isinstance(value, dict) and "remembered" in value
        return {"memorized": value["remembered"], **value} if renamed else value


class Generator(Model):
    """A fine-tuned generator."""

    name: str = ""
    classes: tuple[str, ...] = ()
    spec: GeneratorSpec = GeneratorSpec()
    dataset_version: str = ""
    training: tuple[ClassCount, ...] = ()
    image_size: int = 0
    channels: int = 0
    losses: tuple[float, ...] = ()
    create_time: str = ""
    provenance: Provenance = Provenance()
    held_out_losses: tuple[float, ...] = ()
    held_out: tuple[ClassCount, ...] = ()
    sample_grids: tuple[SampleGrid, ...] = ()
    autoencoder_sha256: str = ""
    base: str = ""
    captions: dict[str, str] = {}
    prompts: str = ""
    closenesses: tuple[GridMemorization, ...] = ()
    stopped_at: int = 0
    weights_sha256: str = ""


class Receipt(Model):
    """Everything needed to draw one image again."""

    generator: str = ""
    class_name: str = ""
    seed: int = 0
    index: int = 0
    sampler: Sampler | None = None
    bucket: int = 0
    pixel_sha256: str = ""
    parent_ids: tuple[str, ...] = ()
    draw: str = ""
    prompt: str = ""
    base: str = ""
    weights_sha256: str = ""
    image_size: int = 0
    revision: str = ""
    device: str = ""


class RejectionReason(StrEnum):
    """Why a draw is no image."""

    NOT_FINITE = "REASON_NOT_FINITE"
    CONSTANT = "REASON_CONSTANT"
    BLACK = "REASON_BLACK"
    DUPLICATE = "REASON_DUPLICATE"


class Rejection(Model):
    """Number of rejected draws, by class and reason."""

    class_name: str
    reason: RejectionReason
    count: int = 0


class Batch(Model):
    """A finished list of draws."""

    name: str = ""
    manifest: str = ""
    counts: tuple[ClassCount, ...] = ()
    drawn: int = 0
    rejected: tuple[Rejection, ...] = ()

    @property
    def size(self) -> int:
        """Images."""
        return sum(entry.count for entry in self.counts)
