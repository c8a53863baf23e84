"""What the makings of all kinds of generator share: where they work, what they leave, the grids that they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from genaug.generation.diffusion.denoise import Denoiser, draw_lot
from genaug.generation.sampling.receipts import Sampler, Wanted
from genaug.generation.training.diffusion_data import TrainingSet
from genaug.generation.training.distributed import Processes
from genaug.generation.training.loop import Checkpoint, Course, Told
from genaug.generation.training.memorization import Closeness
from genaug.shared.errors import InvalidArgument
from genaug.shared.progress import ProgressCallback
from genaug.shared.store import Store
from genaug.vision.images.pixels import encode_png

# Images of each class in a sample grid.
_GRID_IMAGES = 4
_PRECISIONS = ("PRECISION_FLOAT32", "PRECISION_BFLOAT16")
_DECAYS = ("DECAY_COSINE", "DECAY_CONSTANT")


@dataclass
class Made:
    """What fine-tuning leaves."""

    config: dict[str, Any]
    weights: bytes
    facts: dict[str, Any] = field(default_factory=dict)
    """Fields of the message `Generator`."""


@dataclass(frozen=True)
class Place:
    """Where a fine-tuning works."""

    name: str
    """The generator's, "generators/{digest}"."""
    store: Store
    report: ProgressCallback
    processes: Processes
    scratch: list[str] = field(default_factory=list)
    """Keys of what is deleted once the generator is written."""

    @property
    def device(self) -> torch.device:
        """Of this process."""
        return self.processes.device

    def checkpoint(self, part: str = "") -> Checkpoint:
        """Where a training's state lies."""
        found = Checkpoint(self.store, self.name, part)
        self.scratch.append(found.key)
        return found

    def clear(self) -> None:
        """Delete what was only for the way."""
        for key in self.scratch:
            self.store.delete(key)


class Grids:
    """Grids of samples on the way: a row of images per class, from the same noise each time, as one PNG.

    Args:
        place: Where they are written.
        training: What the images are compared with.
        classes: Of the generator.
        sampler: How they are drawn.
        part: Which of several trainings; empty where there is one.
    """

    def __init__(
        self,
        place: Place,
        training: TrainingSet,
        classes: Sequence[str],
        *,
        sampler: Sampler = Sampler(steps=12),  # noqa: B008  # frozen
        part: str = "",
    ) -> None:
        self._place = place
        self._classes = list(classes)
        self._sampler = sampler
        self._part = part
        self._closeness = Closeness(training.pixels, training.labels, training.groups)

    def draw(self, generator: Denoiser, update: int, *, of: Sequence[str] = ()) -> float:
        """Draw one; return the share of its images that are remembered.

        Args:
            generator: With the weights to look at.
            update: Updates done.
            of: The classes to draw; all by default.
        """
        classes = list(of) or self._classes
        drawn = []
        for name in classes:
            wanted = [Wanted(name, 0, index) for index in range(_GRID_IMAGES)]
            drawn += draw_lot(generator, wanted, self._sampler, bucket=generator.bucket, active=lambda: True) or []
        rows = [drawn[start : start + _GRID_IMAGES] for start in range(0, len(drawn), _GRID_IMAGES)]
        grid = np.concatenate([np.concatenate([one.pixels for one in row], axis=1) for row in rows])
        close = self._closeness.of(drawn, self._classes)
        # The picture last: where it is, both are.
        self._place.store.put_new_json(self._notes_key(update), close)
        self._place.store.put_new(self._key(update), encode_png(grid))
        return float(close["remembered"])

    def facts(self, course: Course, told: Told) -> dict[str, Any]:
        """The fields of the message `Generator` that speak of the grids of a finished training."""
        store, last = self._place.store, told.stopped_at or course.updates
        # Of several processes only the first draws, and what another says is not kept.
        drawn = [one for one in sorted(course.draws_at()) if one <= last and store.exists(self._key(one))]
        self._place.scratch.extend(self._notes_key(update) for update in drawn)
        return {
            "sample_grids": [{"update": update, "object": self._key(update)} for update in drawn],
            "closenesses": [{"update": update, **store.get_json(self._notes_key(update))} for update in drawn],
        }

    def _key(self, update: int) -> str:
        return f"{self._place.name}/grids/{f'{self._part}-' if self._part else ''}{update}.png"

    def _notes_key(self, update: int) -> str:
        return self._key(update).removesuffix(".png") + ".json"


def course_of(spec: Mapping[str, Any]) -> Course:
    """How a network is trained.

    Raises:
        InvalidArgument: a value is out of range; the message names it.
    """
    for key in ("train_steps", "batch_size", "learning_rate"):
        if not spec[key] > 0:
            raise InvalidArgument(f"generator.{key}: {spec[key]} is not above 0", reason="BAD_TRAINING")
    for key, highest in (("ema_decay", 1.0), ("held_out", 0.5)):
        if not 0 <= spec[key] <= highest:
            raise InvalidArgument(
                f"generator.{key}: {spec[key]} is not within 0 and {highest:g}", reason="BAD_TRAINING"
            )
    for key, words in (("precision", _PRECISIONS), ("decay", _DECAYS)):
        if spec.get(key, words[0]) not in words:
            raise InvalidArgument(
                f"generator.{key}: {spec[key]!r} is none of {', '.join(words)}", reason="BAD_TRAINING"
            )
    if spec["sample_grids"] < 0:
        raise InvalidArgument(f"generator.sample_grids: {spec['sample_grids']} is negative", reason="BAD_TRAINING")
    return Course(
        updates=spec["train_steps"],
        learning_rate=spec["learning_rate"],
        ema_decay=spec["ema_decay"],
        bfloat16=spec["precision"] == "PRECISION_BFLOAT16",
        grids=spec["sample_grids"],
        constant=spec.get("decay") == "DECAY_CONSTANT",
        accumulation=spec.get("accumulation", 1),
        eight_bit=spec.get("eight_bit_adam", False),
    )
