"""Fine-tuning of Stable Diffusion on captioned images: a low-rank adapter or all weights; DreamBooth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from genaug.generation.artifacts import Artifact
from genaug.generation.diffusion.denoise import Cohort, step
from genaug.generation.generators.stable_diffusion.adapters import DOWN, UP
from genaug.generation.generators.stable_diffusion.base_models import Base, TextEncoder, import_base
from genaug.generation.generators.stable_diffusion.captioned_data import CaptionedBatches, EncodedSet, encode
from genaug.generation.generators.stable_diffusion.generator import (
    LATENTS,
    Config,
    Pipeline,
    StableDiffusion,
    size_multiple,
)
from genaug.generation.sampling.receipts import ImageRequest
from genaug.generation.training.diffusion_data import NoiseSchedule, TrainingSet, validation_batch
from genaug.generation.training.finetune_context import FinetuneContext, FinetuneResult, SampleGrids
from genaug.generation.training.loop import DiffusionBatch, Training, TrainingConfig, TrainingLog, TrainingProblem
from genaug.schema.captions import Captions, captions_of
from genaug.schema.common import Precision
from genaug.schema.generators import (
    Decay,
    DreamBoothSpec,
    Generator,
    GeneratorSpec,
    GridMemorization,
    SampleGrid,
    StableDiffusionSpec,
    TrainedWeights,
)
from genaug.schema.sampling import Sampler
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument
from genaug.shared.progress import ProgressCallback

# CLIP's attention, if the text encoder has an adapter too.
_TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
_PRIOR = "prior"


def train_stable_diffusion(
    spec: GeneratorSpec,
    classes: Sequence[str],
    training: TrainingSet,
    held_out: TrainingSet,
    context: FinetuneContext,
) -> FinetuneResult:
    """Fine-tune the base on class-balanced batches of captioned images; the result is a moving average.

    Raises:
        InvalidArgument: the base cannot be found, a caption is missing, or the image size does not suit the base.
        FailedPrecondition: the base is in another layout.
    """
    settings = cast(StableDiffusionSpec, spec.stable_diffusion)
    context.processes.check(
        batch_size=settings.batch_size, accumulation=settings.accumulation, path="generator.stable_diffusion"
    )
    base = import_base(context.store, settings.base)
    # All processes have imported it before one of them reads it.
    context.processes.wait()
    multiple = size_multiple(base)
    if training.image_size % multiple:
        raise InvalidArgument(
            f"generator.image_size: {training.image_size} is not a multiple of {multiple}, which {base.name} needs",
            reason="BAD_SIZE",
        )
    captions = _captions(settings, classes)
    lora = settings.lora if settings.weights == TrainedWeights.ADAPTER else None
    config = Config(
        classes=tuple(classes),
        image_size=training.image_size,
        channels=training.channels,
        base=base.name,
        weights=settings.weights,
        captions=dict(captions.by_class),
        rank=lora.rank if lora else 0,
        alpha=lora.alpha if lora else 0.0,
        per_class=settings.dreambooth is not None and settings.dreambooth.per_class,
    )
    updates = settings.train_steps
    encoded = encode(training, base, context, updates=updates, mirror=settings.horizontal_flip)
    unseen = encode(held_out, base, context, updates=updates, mirror=False)
    if settings.keep_latents:
        names = [classes[label] for label in training.labels]
        config = config.model_copy(update={"sources": tuple(zip(names, training.ids, strict=True))})
    preview = _Preview(base, settings.precision, context.device)
    prior = _prior_latents(settings, spec.seed or 0, config, context, preview)
    job = _Job(settings, seed_of("finetune", spec.seed or 0), config, base, preview, prior)
    tensors: dict[str, Tensor] = {}
    logs: list[TrainingLog] = []
    sample_grids: list[SampleGrid] = []
    memorization: list[GridMemorization] = []
    for number, part in enumerate(config.parts):
        part_context = replace(context, report=_part_of(context.report, number, len(config.parts)))
        names = [classes[int(part)]] if config.per_class else list(classes)
        grids = SampleGrids(
            part_context, training, classes, sampler=preview.sampler, part=part if config.per_class else ""
        )
        trained, log = _train_part(job, part, names, encoded, unseen, part_context, grids)
        tensors |= trained
        logs.append(log)
        part_grids, part_memorization = grids.record(job.training_config, log)
        sample_grids += part_grids
        memorization += part_memorization
    if settings.keep_latents:
        tensors[LATENTS] = encoded.latents.means[:, 0].to(torch.float16).contiguous()
    record = Generator(
        base=base.name,
        captions=dict(captions.by_class),
        prompts=captions.prompts,
        losses=_mean([log.losses for log in logs]),
        held_out_losses=_mean([log.held_out_losses for log in logs if log.held_out_losses]),
        stopped_at=max(log.stopped_at for log in logs),
        sample_grids=tuple(sample_grids),
        closenesses=tuple(memorization),
    )
    return FinetuneResult(config, safetensors.torch.save(tensors), record)


@dataclass(frozen=True)
class _Job:
    """Facts that the trainings of one generator share."""

    settings: StableDiffusionSpec
    seed: int
    config: Config
    base: Base
    preview: _Preview
    prior: Tensor | None
    """Latents of the base's images of the prior caption, [n, channels, side, side]."""

    @property
    def training_config(self) -> TrainingConfig:
        """Hyperparameters of each training."""
        settings = self.settings
        return TrainingConfig(
            updates=settings.train_steps,
            learning_rate=settings.learning_rate,
            ema_decay=settings.ema_decay,
            bfloat16=settings.precision == Precision.BFLOAT16,
            grids=settings.sample_grids,
            constant=settings.decay == Decay.CONSTANT,
            accumulation=settings.accumulation,
            eight_bit=settings.eight_bit_adam,
        )

    @property
    def captions(self) -> list[str]:
        """Captions by number: of each class, the empty one, and the prior's."""
        prior = self.settings.dreambooth.prior_caption if self.settings.dreambooth and self.prior is not None else ""
        return [*(self.config.captions[name] for name in self.config.classes), "", prior]


def _captions(settings: StableDiffusionSpec, classes: Sequence[str]) -> Captions:
    """The captions of the run file; with DreamBooth, each after its rare token."""
    captions = captions_of(settings.prompts, classes, own=settings.captions)
    dreambooth = settings.dreambooth
    if dreambooth is None:
        return captions
    one_token = dreambooth.per_class or len(classes) == 1
    tokens = {name: f"{dreambooth.token}{'' if one_token else number}" for number, name in enumerate(classes)}
    return Captions(captions.prompts, {name: f"{tokens[name]} {captions.by_class[name]}" for name in classes})


def _prior_latents(
    settings: StableDiffusionSpec, seed: int, config: Config, context: FinetuneContext, preview: _Preview
) -> Tensor | None:
    """Latents of the base's own images of the prior caption (prior preservation); the first process draws them once."""
    dreambooth = settings.dreambooth or DreamBoothSpec(prior_images=0)
    count = dreambooth.prior_images
    if not count:
        return None
    # The base is in the key: a folder's content may have changed since an attempt that was killed.
    key = f"{context.name}/prior-{config.base[-8:]}.safetensors"
    context.scratch.append(key)
    if context.processes.first and not context.store.exists(key):
        prior = Config(
            classes=(_PRIOR,),
            image_size=config.image_size,
            channels=config.channels,
            base=config.base,
            weights=TrainedWeights.ADAPTER,
            captions={_PRIOR: dreambooth.prior_caption},
            rank=1,
            alpha=1.0,
        )
        generator = preview.generator(f"{context.name}/{_PRIOR}", prior, {})
        requests = [ImageRequest(_PRIOR, seed, index) for index in range(count)]
        latents = []
        with torch.inference_mode():
            for start in range(0, count, generator.bucket):
                cohort = Cohort(generator, requests[start : start + generator.bucket], preview.sampler)
                while not cohort.finished:
                    step(generator, [cohort], bucket=generator.bucket)
                    note = f"drawing prior images, {start} of {count}"
                    context.report(0, settings.train_steps, "updates", note)
                latents.append(cohort.samples.cpu())
        context.store.put_new(key, safetensors.torch.save({"latents": torch.cat(latents).clone()}))
    context.processes.wait()
    return safetensors.torch.load(context.store.get(key))["latents"]


class _Preview:
    """Generators of weights that are not an artifact yet. The base's networks are loaded once, on first use."""

    def __init__(self, base: Base, precision: Precision, device: torch.device) -> None:
        self.sampler = Sampler(steps=20, guidance_scale=7.5, precision=precision)
        """Of sample grids and of the prior's images."""
        self._base = base
        self._dtype = torch.bfloat16 if precision == Precision.BFLOAT16 else torch.float32
        self._device = device

    @cached_property
    def _pipeline(self) -> Pipeline:
        return Pipeline(self._base, dtype=self._dtype, device=self._device)

    def generator(self, name: str, config: Config, tensors: dict[str, Tensor]) -> StableDiffusion:
        """The generator of some weights; each set of weights needs a name of its own."""
        stored = config.model_copy(update={"sources": ()}).stored()
        artifact = Artifact(name, Generator(), stored, safetensors.torch.save(tensors))
        pipelines = lambda base, dtype: self._pipeline  # noqa: E731
        return StableDiffusion(artifact, pipelines=pipelines, base=self._base, device=self._device)


def _train_part(
    job: _Job,
    part: str,
    names: Sequence[str],
    training: EncodedSet,
    held_out: EncodedSet,
    context: FinetuneContext,
    grids: SampleGrids,
) -> tuple[dict[str, Tensor], TrainingLog]:
    """Train the weights that draw the classes `names`; return them, named as in the artifact."""
    settings, classes = job.settings, job.config.classes
    network = _CaptionedNetwork(job, context.device)
    schedule = NoiseSchedule(job.base.schedule, min_snr=settings.min_snr)
    batches = CaptionedBatches(
        settings, schedule, training.of_classes(names, classes), classes=len(classes), prior=job.prior, seed=job.seed
    )
    unseen = held_out.of_classes(names, classes)
    problem = TrainingProblem(
        network,
        network,
        batches.draw,
        batches.random,
        validation_batch(schedule, unseen.latents, unseen.images.labels, seed=job.seed),
    )
    run = Training(problem, job.training_config, context.processes)

    def part_tensors() -> dict[str, Tensor]:
        return {f"{part}/{key}": value for key, value in network.trained_tensors().items()}

    def draw_grid(update: int) -> bool:
        generator = job.preview.generator(f"{context.name}/{part}/{update}", job.config, part_tensors())
        return grids.draw(generator, update, classes=names) > settings.memorized

    suffix = f"-{part}" if job.config.per_class else ""
    checkpoint = context.checkpoint(f"{job.base.name[-8:]}{suffix}")
    run.run(context.report, checkpoint=checkpoint, draw_grid=draw_grid)
    if suffix and context.processes.first:
        # A kill during the next class's training must not repeat this one.
        run.save(checkpoint)
    return part_tensors(), run.log


class _CaptionedNetwork(nn.Module):
    """A base's network with captions given by number. The parameters to train require gradients."""

    def __init__(self, job: _Job, device: torch.device) -> None:
        super().__init__()
        settings = job.settings
        self._whole = settings.weights == TrainedWeights.ALL
        bfloat16 = settings.precision == Precision.BFLOAT16
        # Weights that are trained stay in float32; only the frozen ones of a base with an adapter are rounded.
        dtype = torch.bfloat16 if bfloat16 and not self._whole else torch.float32
        self._stored_dtype = torch.bfloat16 if bfloat16 and self._whole else torch.float32
        self.unet = job.base.unet(dtype).to(device)
        text = job.base.text_encoder(dtype).to(device)
        # Only the adapter's initial weights come from torch's global generator; its state is restored.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            self._make_trainable(self.unet, settings, settings.lora.targets if settings.lora else ())
            if settings.text_encoder:
                self._make_trainable(text.network, settings, _TEXT_TARGETS)
        if settings.gradient_checkpointing:
            cast(Any, self.unet).enable_gradient_checkpointing()
        self.text: TextEncoder | None = None
        self._embeddings = self._tokens = torch.empty(0)
        if settings.text_encoder:
            self.text, self._tokens = text, text.tokens(job.captions).to(device)
        else:
            self._embeddings = text.embed(job.captions)

    def forward(self, batch: DiffusionBatch) -> Tensor:
        """The network's prediction."""
        if self.text is None:
            conditions = self._embeddings[batch.labels]
        else:
            numbers, places = batch.labels.unique(return_inverse=True)
            conditions = self.text(self._tokens[numbers])[places]
        unet = cast(Any, self.unet)
        prediction: Tensor = unet(batch.noisy.to(unet.dtype), batch.times, conditions.to(unet.dtype)).sample
        return prediction

    def trained_tensors(self) -> dict[str, Tensor]:
        """The trained tensors, named "unet.…" and "text_encoder.…" as in an artifact."""
        networks = {"unet": self.unet, **({"text_encoder": self.text.network} if self.text else {})}
        trained: dict[str, Tensor] = {}
        for name, network in networks.items():
            if self._whole:
                state = network.state_dict().items()
                trained |= {f"{name}.{key}": value.to(self._stored_dtype).cpu().contiguous() for key, value in state}
                continue
            for key, value in network.named_parameters():
                if value.requires_grad:
                    plain = key.replace(".lora_A.default.weight", DOWN).replace(".lora_B.default.weight", UP)
                    trained[f"{name}.{plain}"] = value.detach().float().cpu().contiguous()
        return trained

    def _make_trainable(self, network: nn.Module, settings: StableDiffusionSpec, targets: Sequence[str]) -> None:
        if settings.lora is None:
            network.requires_grad_(True)
            return
        from peft import LoraConfig, inject_adapter_in_model

        # peft's annotation says int; it scales by lora_alpha / r.
        alpha = cast(int, settings.lora.alpha)
        adapter = LoraConfig(r=settings.lora.rank, lora_alpha=alpha, target_modules=list(targets))
        try:
            inject_adapter_in_model(adapter, network)
        except ValueError:
            raise InvalidArgument(
                "generator.stable_diffusion.lora.targets: no layer's name ends in any of " + ", ".join(targets),
                reason="BAD_TARGETS",
            ) from None
        for key, value in network.named_parameters():
            value.requires_grad_(".lora_" in key)
            if value.requires_grad:
                value.data = value.data.float()


def _part_of(report: ProgressCallback, number: int, count: int) -> ProgressCallback:
    """Progress of one of several trainings, as progress of all."""

    def part_report(done: int, total: int, unit: str, note: str = "", /) -> None:
        report(number * total + done, count * total, unit, note)

    return part_report


def _mean(lists: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Element-wise mean, up to the length of the shortest list: a training may have stopped early."""
    return tuple(round(float(np.mean(values)), 6) for values in zip(*lists, strict=False))
