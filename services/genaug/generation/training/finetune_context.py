"""Store, progress, processes and sample grids of a fine-tuning, and its result: shared by all kinds of generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from genaug.generation.artifacts import ArtifactConfig
from genaug.generation.diffusion.denoise import Denoiser, draw_batch
from genaug.generation.sampling.receipts import ImageRequest
from genaug.generation.training.diffusion_data import TrainingSet
from genaug.generation.training.distributed import Processes
from genaug.generation.training.loop import Checkpoint, TrainingConfig, TrainingLog
from genaug.generation.training.memorization import MemorizationProbe
from genaug.schema.generators import Generator, GridMemorization, SampleGrid
from genaug.schema.model import read
from genaug.schema.sampling import Sampler
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store
from genaug.vision.images.pixels import encode_png

# Images of each class in a sample grid.
_GRID_IMAGES = 4


@dataclass(frozen=True)
class FinetuneResult:
    """Result of a kind's training."""

    config: ArtifactConfig
    weights: bytes
    """safetensors."""
    record: Generator = Generator()  # noqa: RUF009  # frozen
    """The generator's record with the fields that its kind knows, such as losses; the Job adds the others."""


@dataclass(frozen=True)
class FinetuneContext:
    """Surroundings of a fine-tuning."""

    name: str
    """ "generators/{digest}"."""
    store: Store
    """As the identity "finetune"."""
    report: ProgressCallback
    processes: Processes
    scratch: list[str] = field(default_factory=list)
    """Keys of objects that are deleted once the generator is written."""

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.processes.device

    def checkpoint(self, part: str = "") -> Checkpoint:
        """Checkpoint of a training; `part` names it if there are several."""
        checkpoint = Checkpoint(self.store, self.name, part)
        self.scratch.append(checkpoint.key)
        return checkpoint

    def clear(self) -> None:
        """Delete the scratch objects."""
        for key in self.scratch:
            self.store.delete(key)


class SampleGrids:
    """Sample grids of a training: one row of images per class, from the same noise each time, as one PNG.

    Args:
        context: Holds the store.
        training: Training images, which samples are compared with.
        classes: The generator's.
        sampler: Sampler settings.
        part: Name of the training, if the generator has several.
    """

    def __init__(
        self,
        context: FinetuneContext,
        training: TrainingSet,
        classes: Sequence[str],
        *,
        sampler: Sampler = Sampler(steps=12),  # noqa: B008  # frozen
        part: str = "",
    ) -> None:
        self._context = context
        self._classes = list(classes)
        self._sampler = sampler
        self._part = part
        self._probe = MemorizationProbe(training.pixels, training.labels, training.groups)

    def draw(self, generator: Denoiser, update: int, *, classes: Sequence[str] = ()) -> float:
        """Draw a grid and return the share of its images that are memorized.

        Args:
            generator: The generator with its present weights.
            update: Updates done.
            classes: Classes to draw; all by default.
        """
        images = []
        for name in list(classes) or self._classes:
            requests = [ImageRequest(name, 0, index) for index in range(_GRID_IMAGES)]
            batch = draw_batch(generator, requests, self._sampler, bucket=generator.bucket, is_active=lambda: True)
            images += batch or []
        rows = [images[start : start + _GRID_IMAGES] for start in range(0, len(images), _GRID_IMAGES)]
        grid = np.concatenate([np.concatenate([image.pixels for image in row], axis=1) for row in rows])
        memorization = self._probe.measure(images, self._classes, update=update)
        # The picture last: if it exists, so does the measurement.
        self._context.store.put_new_json(self._measurement_key(update), memorization.json_value())
        self._context.store.put_new(self._key(update), encode_png(grid))
        return memorization.memorized

    def record(self, config: TrainingConfig, log: TrainingLog) -> tuple[list[SampleGrid], list[GridMemorization]]:
        """The grids of a finished training, with their measurements, for the generator's record."""
        store, last = self._context.store, log.stopped_at or config.updates
        # Only the first of several processes draws grids, and only its record is written.
        updates = [u for u in sorted(config.grid_updates()) if u <= last and store.exists(self._key(u))]
        self._context.scratch.extend(self._measurement_key(update) for update in updates)
        return (
            [SampleGrid(update=update, object=self._key(update)) for update in updates],
            [read(store, self._measurement_key(u), GridMemorization).replace(update=u) for u in updates],
        )

    def _key(self, update: int) -> str:
        return f"{self._context.name}/grids/{f'{self._part}-' if self._part else ''}{update}.png"

    def _measurement_key(self, update: int) -> str:
        return self._key(update).removesuffix(".png") + ".json"
