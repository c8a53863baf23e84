"""What is asked for, what comes of it, and how it is named: the facts that draw one image again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from genaug.shared.digests import digest_of
from genaug.shared.provenance import revision
from genaug.vision.images.pixels import Pixels

RECIPE = "draw/2"

Fault = Literal["REASON_NOT_FINITE", "REASON_CONSTANT", "REASON_BLACK", "REASON_DUPLICATE"]
"""Why a draw is no image."""


@dataclass(frozen=True)
class Sampler:
    """How a diffusion image is sampled, with nothing left open."""

    steps: int = 20
    """Denoising steps, 1 to 1000."""
    guidance_scale: float = 1.5
    """Classifier-free guidance, 1 (none) to 100."""
    scheduler: str = "DPMSolverMultistepScheduler"
    """By diffusers' name."""
    negative_prompt: str = ""
    image_size: int = 0
    """Height and width, pixels; 0 for the generator's own."""
    strength: float = 0.0
    """Share of the noise with which drawing starts from a training image; 0 from noise alone."""
    profile: str = "PROFILE_FULL"
    precision: str = "PRECISION_FLOAT32"

    def guided(self, step: int, *, of: int) -> bool:
        """Whether a step, counted from 0, is guided; TURBO guides in the first half (arXiv:2404.07724)."""
        early = self.profile != "PROFILE_TURBO" or 2 * step < of
        return self.guidance_scale != 1 and early


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
    finite: bool = True
    """Whether the network's numbers stayed finite; where not, the pixels mean nothing."""


@dataclass(frozen=True)
class Steps:
    """How far a request is."""

    done: int
    """Denoising steps of all its images."""
    total: int
    position: int
    """Requests of other callers that start before it; 0 once it has started."""


@dataclass(frozen=True)
class Source:
    """The generator behind a draw, as its receipts say it."""

    generator: str
    """ "generators/{digest}"."""
    base: str = ""
    """ "bases/{digest}"; empty where there is none."""
    weights_sha256: str = ""
    captions: dict[str, str] = field(default_factory=dict)
    """By class, where captions are what it is asked with."""
    device: str = ""
    """What it is drawn on."""


def draw_digest(generator: str, wanted: Wanted, sampler: Sampler | None) -> str:
    """Name of one image: 32 hex digits of all that shapes it.

    Args:
        generator: "generators/{digest}".
        sampler: None for a generator that does not sample.
    """
    return digest_of(
        RECIPE,
        {
            "generator": generator,
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


def receipt_json(source: Source, drawn: Drawn, *, sampler: Sampler | None, pixel_sha256: str) -> dict[str, Any]:
    """The message `Receipt` as JSON: everything needed to draw the image again."""
    wanted = drawn.wanted
    found: dict[str, Any] = {
        "generator": source.generator,
        "class_name": wanted.class_name,
        "seed": wanted.seed,
        "index": wanted.index,
        "sampler": sampler_json(sampler),
        "bucket": drawn.bucket,
        "pixel_sha256": pixel_sha256,
        "parent_ids": list(drawn.parent_ids),
        "draw": draw_digest(source.generator, wanted, sampler),
        "prompt": source.captions.get(wanted.class_name, ""),
        "base": source.base,
        "weights_sha256": source.weights_sha256,
        "image_size": drawn.pixels.shape[0],
        "revision": revision(),
        "device": source.device,
    }
    return {key: value for key, value in found.items() if value not in ("", {}, [])}
