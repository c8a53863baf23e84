"""Training of class-conditional diffusion from scratch, in pixels or in an autoencoder's latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import safetensors.torch
import torch
from torch import Tensor

from genaug.generation.generators.class_conditional.autoencoder import Autoencoder, load_autoencoder
from genaug.generation.generators.class_conditional.data import Batches, LatentImages, PixelImages, encode
from genaug.generation.generators.class_conditional.generator import (
    DECODER,
    ClassConditional,
    Config,
    build_network,
    fitting_threads,
    new_config,
)
from genaug.generation.training.diffusion_data import ImageSource, NoiseSchedule, TrainingSet, validation_batch
from genaug.generation.training.finetune_context import FinetuneContext, FinetuneResult, SampleGrids
from genaug.generation.training.loop import DiffusionBatch, Training, TrainingConfig, TrainingProblem
from genaug.schema.common import Precision
from genaug.schema.generators import ClassConditionalSpec, Generator, GeneratorSpec
from genaug.shared.digests import seed_of


def train_class_conditional(
    spec: GeneratorSpec,
    classes: Sequence[str],
    training: TrainingSet,
    held_out: TrainingSet,
    context: FinetuneContext,
) -> FinetuneResult:
    """Train the network on class-balanced batches. The result is an exponential moving average of the weights.

    Raises:
        InvalidArgument: the patch size or batch size does not fit, or there is no autoencoder in the named folder.
        FailedPrecondition: the autoencoder's weights do not fit.
    """
    settings = spec.class_conditional or ClassConditionalSpec()
    context.processes.check(batch_size=settings.batch_size, accumulation=1, path="generator.class_conditional")
    seed = seed_of("finetune", spec.seed or 0)
    encoder, encoder_sha256 = load_autoencoder(settings.autoencoder) if settings.autoencoder else (None, "")
    if encoder is not None:
        encoder.to(context.device)
    config, images, unseen = _prepare(settings, classes, training, held_out, context, encoder=encoder, seed=seed)
    # Only the initial weights come from torch's global generator; its state is restored.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(config).to(context.device)
    mirror = settings.horizontal_flip
    batches = Batches(config, images, training.labels, size=settings.batch_size, mirror=mirror, seed=seed)

    def predict(batch: DiffusionBatch) -> Tensor:
        return cast(Tensor, network(batch.noisy, batch.times, class_labels=batch.labels).sample)

    problem = TrainingProblem(
        network,
        predict,
        batches.draw,
        batches.random,
        validation_batch(NoiseSchedule(config.schedule), unseen, held_out.labels, seed=seed),
        context=lambda: fitting_threads(config),
    )
    training_config = TrainingConfig(
        updates=settings.train_steps,
        learning_rate=settings.learning_rate,
        ema_decay=settings.ema_decay,
        bfloat16=settings.precision == Precision.BFLOAT16,
        grids=settings.sample_grids,
    )
    run = Training(problem, training_config, context.processes)
    grids = SampleGrids(context, training, classes)
    generator = ClassConditional(context.name, config, network, device=context.device, decoder=encoder)

    def draw_grid(update: int) -> bool:
        # From-scratch models are never stopped early; memorization is only reported.
        grids.draw(generator, update)
        return False

    run.run(context.report, checkpoint=context.checkpoint(), draw_grid=draw_grid)
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    if encoder is not None:
        weights |= {DECODER + key: value.cpu().contiguous() for key, value in encoder.decoder_tensors().items()}
    sample_grids, memorization = grids.record(training_config, run.log)
    record = Generator(
        losses=tuple(run.log.losses),
        held_out_losses=tuple(run.log.held_out_losses),
        sample_grids=tuple(sample_grids),
        closenesses=tuple(memorization),
        autoencoder_sha256=encoder_sha256,
    )
    return FinetuneResult(config, safetensors.torch.save(weights), record)


def _prepare(
    settings: ClassConditionalSpec,
    classes: Sequence[str],
    training: TrainingSet,
    held_out: TrainingSet,
    context: FinetuneContext,
    *,
    encoder: Autoencoder | None,
    seed: int,
) -> tuple[Config, ImageSource, ImageSource]:
    """The network's configuration, and the training and held-out images in its shape."""
    side, channels = training.image_size, training.channels
    if encoder is None:
        config = new_config(settings, classes=classes, image_size=side, channels=channels)
        return config, PixelImages(config, training), PixelImages(config, held_out)

    def report(done: int, total: int) -> None:
        note = f"encoding images, {done} of {total}" if done < total else ""
        context.report(0, settings.train_steps, "updates", note)

    mirror = settings.horizontal_flip
    latents = encode(training, encoder, mirror=mirror, jittered=True, seed=seed, on_progress=report)
    moments = latents.moments()
    config = new_config(settings, classes=classes, image_size=side, channels=channels, latents=moments, encoder=encoder)
    images = latents.normalized(config, moments)
    if not len(held_out.labels):
        # Never read: there is no validation batch.
        return config, images, images
    unseen: LatentImages = encode(held_out, encoder, mirror=False, jittered=False, seed=seed)
    return config, images, unseen.normalized(config, moments)
