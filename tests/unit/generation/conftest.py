"""A small dataset version, and generators trained on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tests.conftest import Stores
from tests.shapes import VERSION, put_version, real_rows
from tests.tiny_base import write_tiny_base

from genaug.generation.artifacts import Artifact, write_artifact
from genaug.generation.finetune import finetune
from genaug.generation.generators import Loader
from genaug.generation.generators.stable_diffusion.adapters import DOWN, expected_shapes
from genaug.generation.generators.stable_diffusion.base_models import import_base
from genaug.generation.generators.stable_diffusion.generator import LATENTS, Config
from genaug.schema.generators import Generator, GeneratorSpec
from genaug.schema.jobs import FinetuneInputs
from genaug.schema.model import parse
from genaug.shared.digests import digest_of, sha256
from genaug.shared.manifest import Row

IMAGES = 6
CLASSES = ("lies", "stands")
# The least work of each kind.
_LEAST: dict[str, dict[str, Any]] = {
    "class_conditional": {
        "train_steps": 3, "batch_size": 8, "learning_rate": 0.001, "base_channels": 8, "sample_grids": 1,
    },
    "stable_diffusion": {"prompts": "generic", "train_steps": 3, "batch_size": 4, "sample_grids": 1},
    "transforms": {},
}  # fmt: skip


def inputs(
    kind: str = "class_conditional",
    *,
    classes: Sequence[str] = CLASSES,
    image_size: int = 8,
    channels: int = 1,
    seed: int = 0,
    **settings: Any,
) -> FinetuneInputs:
    """Inputs of a finetune Job with the least work, except for `settings` of the kind."""
    spec = parse(GeneratorSpec, {"seed": seed, kind: _LEAST[kind] | settings}, path="generator")
    return FinetuneInputs(
        dataset_version=VERSION, classes=tuple(classes), generator=spec.completed(image_size), channels=channels
    )


def from_base(base: Path | str, *, image_size: int = 16, **changes: Any) -> FinetuneInputs:
    """Inputs of a finetune Job that starts from a base."""
    return inputs("stable_diffusion", base=str(base), image_size=image_size, **changes)


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
    **changes: Any,
) -> str:
    """Put a Stable Diffusion generator with a strong random adapter into the store, without training.

    Args:
        stores: The store.
        base: The base's folder.
        seed: Seed of the adapter; it is in the generator's name.
        targets: Ends of the names of layers that the adapter changes.
        text: Whether it changes the text encoder too.
        latents: Whether the artifact holds training latents, three of each class.
        tensors: The artifact's tensors, instead of a random adapter.
        changes: Fields of the configuration, instead of the defaults.
    """
    store = stores("finetune")
    model = import_base(store, str(base))
    random = torch.Generator().manual_seed(seed)
    if latents:
        changes["sources"] = [(name, f"{name}-{number}") for name in CLASSES for number in range(3)]
    config = parse(
        Config,
        {
            "classes": CLASSES, "image_size": 16, "channels": 3, "base": model.name, "weights": "WEIGHTS_ADAPTER",
            "captions": {name: f"a photograph of class {name}" for name in CLASSES}, "rank": 2, "alpha": 2.0, **changes,
        },
    )  # fmt: skip
    own = dict(tensors or {})
    if tensors is None:
        networks = {"unet": model.unet()} | ({"text_encoder": model.text_encoder().network} if text else {})
        for part in config.parts:
            for network, module in networks.items():
                own |= {f"{part}/{network}.{key}": value for key, value in low_rank(module, targets, random).items()}
    if latents:
        own[LATENTS] = torch.randn(len(config.sources), 4, 8, 8, generator=random).half()
    weights = safetensors.torch.save(own)
    name = f"generators/{digest_of('test/1', [config.stored(), sha256(weights)])}"
    record = Generator(
        name=name, classes=config.classes, image_size=config.image_size, channels=config.channels, base=config.base,
        spec=from_base(base).generator, captions=config.captions, weights_sha256=sha256(weights),
    )  # fmt: skip
    write_artifact(store, Artifact(name, record, config.stored(), weights))
    return name


def low_rank(
    module: torch.nn.Module, targets: Sequence[str], random: torch.Generator, *, rank: int = 2
) -> dict[str, torch.Tensor]:
    """Random matrices for the layers of `module` whose names end in one of `targets`."""
    names = [name for name, _ in module.named_modules() if name.endswith(tuple(targets))]
    shapes = expected_shapes(module, {f"{name}{DOWN}": torch.empty(0) for name in names}, rank=rank)
    return {key: torch.randn(shape.shape, generator=random) * 0.3 for key, shape in sorted(shapes.items())}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread: with several, networks this small wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loader(stores: Stores, *, memory_bytes: int = 1 << 30) -> Loader:
    """A loader of the store's generators."""
    return Loader(stores("generation"), device=torch.device("cpu"), memory_bytes=memory_bytes)


@dataclass
class World:
    """A store that holds a dataset version of two classes, and rows that no generator may see."""

    stores: Stores
    rows: list[Row]
    reports: list[tuple[int, int, str]] = field(default_factory=list)

    def finetune(self, kind: str = "class_conditional", **changes: Any) -> str:
        """Make a generator."""
        return self.run(inputs(kind, **changes))

    def finetune_base(self, base: Path | str, **changes: Any) -> str:
        """Make a Stable Diffusion generator."""
        return self.run(from_base(base, **changes))

    def run(self, job: FinetuneInputs) -> str:
        """Run a finetune Job."""
        return finetune(job, self.stores("finetune"), self.report, device="cpu")

    def report(self, done: int, total: int, unit: str, note: str = "", /) -> None:
        """Record the Job's progress."""
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
