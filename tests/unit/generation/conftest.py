"""A small dataset version, and generators made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from genaug.orchestrator.generator_spec import generator_with_defaults
from tests.conftest import Stores
from tests.shapes import VERSION, put_version, real_rows
from tests.tiny_base import write_tiny_base

from genaug.generation.artifacts import Artefact, write_artefact
from genaug.generation.finetune import finetune
from genaug.generation.generators import Loader
from genaug.generation.generators.stable_diffusion.adapters import DOWN, expected_shapes
from genaug.generation.generators.stable_diffusion.base_models import bring_base
from genaug.generation.generators.stable_diffusion.generator import LATENTS, Config
from genaug.shared.digests import digest_of, sha256
from genaug.shared.manifest import Row

IMAGES = 6
CLASSES = ("lies", "stands")


def spec(kind: str = "KIND_CLASS_CONDITIONAL", **changes: Any) -> dict[str, Any]:
    """A generator's specification, as small as it may be."""
    own: dict[str, Any] = {"train_steps": 3, "batch_size": 8, "learning_rate": 0.001, "base_channels": 8}
    own["sample_grids"] = 1
    if kind == "KIND_TRANSFORMS":
        ranges = {"horizontal_flip": False, "rotate_degrees": 10.0, "shift": 0.05, "scale": 0.1, "colour": 0.1}
        own = {"transforms": ranges}
    return {"kind": kind, "image_size": 8, "channels": 1, "seed": 0, **own, **changes}


def from_base(base: Path | str, **changes: Any) -> dict[str, Any]:
    """A stable-diffusion generator's specification, as the run file's is when it is complete."""
    own = {"kind": "KIND_STABLE_DIFFUSION", "base": str(base), "prompts": "generic", "train_steps": 3, "batch_size": 4}
    own["sample_grids"] = 1
    shape = {"image_size": 16, "channels": 1} | {
        key: changes.pop(key) for key in ("image_size", "channels") if key in changes
    }
    return generator_with_defaults(own | changes) | shape


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with random weights, on disk."""
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


def put_adapter(
    stores: Stores,
    base: Path,
    *,
    seed: int = 0,
    targets: Sequence[str] = ("to_q", "to_v", "to_out.0", "conv1"),
    text: bool = False,
    latents: bool = False,
    tensors: Mapping[str, torch.Tensor] | None = None,
    **config: Any,
) -> str:
    """A stable-diffusion generator in the store whose adapter is at random and strong: nothing has to be trained.

    Args:
        seed: Of the adapter; it is in the generator's name.
        targets: Ends of the names of layers that the adapter changes.
        text: Whether it changes the text encoder too.
        latents: Whether training latents travel along, three of each class.
        tensors: The artefact's, instead of an adapter at random.
        config: Of the generator, instead of the defaults.
    """
    store = stores("finetune")
    found = bring_base(store, str(base))
    source = torch.Generator().manual_seed(seed)
    facts: dict[str, Any] = {
        "kind": "KIND_STABLE_DIFFUSION", "classes": CLASSES, "image_size": 16, "channels": 3, "base": found.name,
        "weights": "WEIGHTS_ADAPTER", "captions": {name: f"a photograph of class {name}" for name in CLASSES},
        "rank": 2, "alpha": 2.0, **config,
    }  # fmt: skip
    if latents:
        facts["sources"] = tuple((name, f"{name}-{number}") for name in facts["classes"] for number in range(3))
    made = Config(**facts)
    own = dict(tensors or {})
    if tensors is None:
        networks = {"unet": found.unet()} | ({"text_encoder": found.text_encoder().network} if text else {})
        for part in made.parts:
            for network, module in networks.items():
                own |= {f"{part}/{network}.{key}": one for key, one in low_rank(module, targets, source).items()}
    if latents:
        own[LATENTS] = torch.randn(len(made.sources), 4, 8, 8, generator=source).half()
    weights = safetensors.torch.save(own)
    name = f"generators/{digest_of('test/1', [made.json(), sha256(weights)])}"
    record = {
        "name": name, "classes": list(made.classes), "image_size": made.image_size, "channels": made.channels,
        "spec": {"kind": made.kind}, "base": made.base, "captions": made.captions, "weights_sha256": sha256(weights),
    }  # fmt: skip
    write_artefact(store, Artefact(name, record, made.json(), weights))
    return name


def low_rank(
    module: torch.nn.Module, targets: Sequence[str], source: torch.Generator, *, rank: int = 2
) -> dict[str, torch.Tensor]:
    """Matrices at random for the layers of `module` whose names end in one of `targets`."""
    names = [name for name, _ in module.named_modules() if name.endswith(tuple(targets))]
    shapes = expected_shapes(module, {f"{name}{DOWN}": torch.empty(0) for name in names}, rank=rank)
    return {key: torch.randn(one.shape, generator=source) * 0.3 for key, one in sorted(shapes.items())}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small wait for each other's threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loader(stores: Stores, *, memory_bytes: int = 1 << 30) -> Loader:
    """What loads generators from the store."""
    return Loader(stores("generation"), device=torch.device("cpu"), memory_bytes=memory_bytes)


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

    def finetune_base(self, base: Path | str, **changes: Any) -> str:
        """Make a stable-diffusion generator."""
        inputs = {**self.inputs(), "generator": from_base(base, **changes)}
        return finetune(inputs, self.stores("finetune"), self.report, device="cpu")

    def report(self, done: int, total: int, unit: str, note: str = "") -> None:
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
