"""What is asked for, what comes of it, and how it is named: the facts that draw one image again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from genaug.shared.digests import digest_of
from genaug.vision.images import Pixels


@dataclass(frozen=True)
class Sampler:
    """How a diffusion image is sampled."""

    steps: int = 20
    """DPM-Solver++ steps, 1 to 1000."""
    guidance_scale: float = 1.5
    """Classifier-free guidance, 1 (none) to 100."""


@dataclass(frozen=True)
class Wanted:
    """One image that is asked for. Its noise is a function of these three."""

    class_name: str
    seed: int
    index: int


@dataclass(frozen=True)
class Drawn:
    """One image that was drawn."""

    wanted: Wanted
    pixels: Pixels
    bucket: int
    """Images that were computed together."""
    parent_ids: tuple[str, ...] = ()
    """Real images it was transformed from."""


def draw_digest(generator: str, wanted: Wanted, sampler: Sampler | None) -> str:
    """Name of one image: 32 hex digits of all that shapes it.

    Args:
        generator: "generators/{digest}".
        sampler: None for a generator that does not sample.
    """
    return digest_of(
        "draw/1",
        {
            "generator": generator,
            "prompt": wanted.class_name,
            "class": wanted.class_name,
            "seed": wanted.seed,
            "index": wanted.index,
            "sampler": sampler_json(sampler),
        },
    )


def draw_key(digest: str) -> str:
    """Where the PNG of a draw lies in the store."""
    return f"draws/{digest[:2]}/{digest}"


def sampler_json(sampler: Sampler | None) -> dict[str, Any]:
    """The message `SamplerSettings` as JSON; empty where nothing is sampled."""
    return {} if sampler is None else asdict(sampler)


def receipt_json(
    generator: str, drawn: Drawn, *, sampler: Sampler | None, digest: str, pixel_sha256: str
) -> dict[str, Any]:
    """The message `Receipt` as JSON: everything needed to draw the image again."""
    return {
        "generator": generator,
        "class_name": drawn.wanted.class_name,
        "seed": drawn.wanted.seed,
        "index": drawn.wanted.index,
        "sampler": sampler_json(sampler),
        "bucket": drawn.bucket,
        "pixel_sha256": pixel_sha256,
        "parent_ids": list(drawn.parent_ids),
        "draw": digest,
    }
