"""A small dataset version, and generators made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Stores
from tests.shapes import VERSION, put_version, real_rows
from tests.tiny_base import write_tiny_base

from genaug.generation.finetune import finetune
from genaug.orchestrator.generator_spec import generator_with_defaults
from genaug.shared.manifest import Row

IMAGES = 6


def spec(kind: str = "KIND_CLASS_CONDITIONAL", **changes: Any) -> dict[str, Any]:
    """A generator's specification, as small as it may be."""
    own: dict[str, Any] = {"train_steps": 3, "batch_size": 8, "learning_rate": 0.001, "base_channels": 8}
    own["sample_grids"] = 1
    if kind == "KIND_TRANSFORMS":
        ranges = {"horizontal_flip": False, "rotate_degrees": 10.0, "shift": 0.05, "scale": 0.1, "colour": 0.1}
        own = {"transforms": ranges}
    return {"kind": kind, "image_size": 8, "channels": 1, "seed": 0, **own, **changes}


def from_base(base: Path, **changes: Any) -> dict[str, Any]:
    """A stable-diffusion generator's specification, as the run file's is when it is complete."""
    own = {"kind": "KIND_STABLE_DIFFUSION", "base": str(base), "prompts": "generic", "train_steps": 3, "batch_size": 4}
    own["sample_grids"] = 1
    given = {key: value for key, value in changes.items() if key not in ("image_size", "channels")}
    return generator_with_defaults(own | given) | {"image_size": 16, "channels": 1} | changes


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with random weights, on disk."""
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small wait for each other's threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class World:
    """A store that holds a dataset version of two classes, and rows that no generator may see."""

    stores: Stores
    rows: list[Row]
    reports: list[tuple[int, int, str]] = field(default_factory=list)

    def inputs(self, *, classes: tuple[str, ...] = ("lies", "stands"), **changes: Any) -> dict[str, Any]:
        """A finetune Job's inputs."""
        return {"dataset_version": VERSION, "classes": list(classes), "generator": spec(**changes)}

    def finetune(self, **changes: Any) -> str:
        """Make a generator."""
        return finetune(self.inputs(**changes), self.stores("finetune"), self.report, device="cpu")

    def finetune_base(self, base: Path, **changes: Any) -> str:
        """Make a stable-diffusion generator."""
        inputs = {**self.inputs(), "generator": from_base(base, **changes)}
        return finetune(inputs, self.stores("finetune"), self.report, device="cpu")

    def report(self, done: int, total: int, unit: str, aside: str = "") -> None:
        """What the Job says."""
        self.reports.append((done, total, unit))


@pytest.fixture
def world(stores: Stores) -> World:
    """Six training images in each of two classes."""
    store = stores("assembly")
    rows = real_rows(store, {"lies": IMAGES, "stands": IMAGES})
    # None of these is in the store: reading one fails.
    unseen = [
        Row("f" * 32, "images/ff/none", "", "", "lies", "validation"),
        Row("e" * 32, "draws/ee/none", "", "", "lies", "train", source="synthetic"),
        Row("d" * 32, "images/dd/none", "", "", "leans", "train"),
    ]
    put_version(store, rows + unseen)
    return World(stores, rows)
