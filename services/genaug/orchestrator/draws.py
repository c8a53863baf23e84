"""How many images of each class are drawn, and in which chunks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from genaug.orchestrator.fields import Spec
from genaug.orchestrator.generator_spec import STABLE_DIFFUSION

Json = dict[str, Any]

# How many more images than needed the first round draws, for those that will be rejected.
_SPARE = 1.2
# Images of each class that two sets of captions are compared by, at most: intervals of some ± 12 points.
_COMPARED = 64

# What GenerationSpec and SamplerSettings have in common.
SAMPLER = ("steps", "guidance_scale", "scheduler", "negative_prompt", "strength", "profile", "precision")


def size_of(value: Json) -> int:
    """Images in a request to draw, or in a batch, which may have none of a class."""
    return sum(int(count.get("count", 0)) for count in value.get("counts", []))


def top_up(needed: dict[str, int], kept: dict[str, int], drawn: dict[str, int], *, limit: float) -> dict[str, int]:
    """How many images of each class the next round draws: as many as acceptance so far makes likely to suffice.

    Args:
        needed: Images that the largest dose asks for.
        kept: Those that were accepted as the class, and that may be used.
        drawn: Those that were asked for as the class.
        limit: Most draws per image needed, over all rounds.
    """
    wanted = {}
    for name, target in needed.items():
        short = target - kept[name]
        # At least one in ten is hoped for, so that a class whose images are all rejected does not ask for too many.
        rate = max(kept[name] / drawn[name], 0.1) if drawn[name] else 1.0
        count = min(math.ceil(short * _SPARE / rate), math.ceil(limit * target) - drawn[name])
        if short > 0 and count > 0:
            wanted[name] = count
    return wanted


def compared_counts(needed: dict[str, int], *, limit: float) -> dict[str, int]:
    """Images of each class that a second set of captions draws: those of the first round, of which no more than 64."""
    none = dict.fromkeys(needed, 0)
    return {name: min(count, _COMPARED) for name, count in top_up(needed, none, none, limit=limit).items()}


def chunk_size(generator: Mapping[str, Any]) -> int:
    """Images that one durable child draws: some tens of seconds on a small CPU, where the network is small.

    One call draws and labels a chunk, and holds one of the few places for chunks until it is done. A stable-diffusion
    image of 512 pixels takes a small CPU minutes, an accelerator about a second, so that theirs are smaller.

    Args:
        generator: The GeneratorSpec.
    """
    if generator.get("kind") == STABLE_DIFFUSION:
        return 16
    return 256 if generator["image_size"] <= 16 else 64


def draw_requests(
    spec: Spec, generator: str, wanted: Mapping[str, int], first: Mapping[str, int], *, size: int
) -> list[Json]:
    """Cut what is wanted of each class into chunks.

    Args:
        spec: The run's.
        generator: "generators/{digest}".
        wanted: Images per class.
        first: Index of the first of them, by class.
        size: Images of a chunk, at most.
    """
    settings = spec["generation"]
    sampler = {key: settings[key] for key in SAMPLER if settings.get(key)}
    return [
        {
            "generator": generator,
            "counts": [{"class_name": name, "count": min(size, count - start)}],
            "seed": spec["generation"]["seed"],
            "first_index": first[name] + start,
            "sampler": sampler,
            "output": "OUTPUT_STORE",
        }
        for name, count in wanted.items()
        for start in range(0, count, size)
    ]


def rejections(batches: Iterable[Json]) -> list[Json]:
    """Draws that were no images, summed over batches by class and reason; batches of earlier releases say none."""
    found: Counter[tuple[str, str]] = Counter()
    for batch in batches:
        for one in batch.get("rejected", []):
            found[one["class_name"], one["reason"]] += int(one["count"])
    return [{"class_name": name, "reason": reason, "count": count} for (name, reason), count in sorted(found.items())]
