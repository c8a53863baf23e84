"""Near-duplicates: changed copies found, unlike photographs joined, and the cost at 10,000 and 100,000 images.

    python benchmarks/duplicates.py --odir ../shared/data/odir
    python benchmarks/duplicates.py --made 10000 100000

Prints Markdown tables and, last, one JSON line per figure, {"name", "ratio", "goal", "better"}. Without --odir the
first two parts are left out. The second column of the first table is the rule of thumbnails alone, for comparison.

    duplicates.found     smallest share, over all changes, of copies of 200 photographs that are joined to the original
    duplicates.false     joins of different patients over all their pairs; each of them is listed, to be looked at
    duplicates.minutes   minutes of comparing the largest number of made images
    duplicates.gib       peak memory of doing so, with all fingerprints, GiB
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from genaug.assembly.duplicates import MAX_DISTANCE, MIN_CORRELATION, correlations, near_pairs, perceptual_hashes
from genaug.assembly.fingerprints import Fingerprint, fingerprint

COPIES = 200
# Made images, of which the last ones are mirrored copies of the first ones.
MADE_COPIES = 100

Change = Callable[[Image.Image], Image.Image]
TURN = Image.Transpose


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return Image.open(sink).convert("RGB")


def cropped(image: Image.Image, share: float, across: float = 0.5, down: float = 0.5) -> Image.Image:
    width, height = round(image.width * share), round(image.height * share)
    left, top = round((image.width - width) * across), round((image.height - height) * down)
    return image.crop((left, top, left + width, top + height))


def dated(image: Image.Image) -> Image.Image:
    image = image.copy()
    text = "2019-03-21 14:05"
    ImageDraw.Draw(image).text((image.width * 0.62, image.height * 0.93), text, fill=(255, 255, 0))
    return image


def gamma(image: Image.Image, exponent: float) -> Image.Image:
    return image.point([round(255 * (value / 255) ** exponent) for value in range(256)] * 3)


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC)


def framed(image: Image.Image, across: float, down: float, color: tuple[int, int, int]) -> Image.Image:
    return ImageOps.expand(image, (round(image.width * across), round(image.height * down)), color)


CHANGES: dict[str, Change] = {
    "mirrored": lambda image: image.transpose(TURN.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(TURN.FLIP_TOP_BOTTOM),
    "turned by 90°": lambda image: image.transpose(TURN.ROTATE_90),
    "turned by 180°": lambda image: image.transpose(TURN.ROTATE_180),
    "transposed": lambda image: image.transpose(TURN.TRANSPOSE),
    "cropped to 99 %": lambda image: cropped(image, 0.99),
    "cropped to 95 %": lambda image: cropped(image, 0.95),
    "cropped to 90 %": lambda image: cropped(image, 0.9),
    "cropped to 90 %, a corner": lambda image: cropped(image, 0.9, 0, 1),
    "letterbox of 15 %": lambda image: framed(image, 0, 0.15, (0, 0, 0)),
    "white border of 10 %, JPEG": lambda image: jpeg(framed(image, 0.1, 0.1, (255, 255, 255)), 90),
    "dated": dated,
    "contrast × 1.5": lambda image: ImageEnhance.Contrast(image).enhance(1.5),
    "contrast × 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "brightness × 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "gamma 0.6": lambda image: gamma(image, 0.6),
    "gamma 1.6": lambda image: gamma(image, 1.6),
    "equalized": ImageOps.equalize,
    "grey": lambda image: image.convert("L").convert("RGB"),
    "JPEG of quality 10": lambda image: jpeg(image, 10),
    "JPEG of quality 60": lambda image: jpeg(image, 60),
    "scaled by 0.25": lambda image: scaled(image, 0.25),
    "scaled by 2": lambda image: scaled(image, 2),
    "blurred, σ 1.5 of 256": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "mirrored, cropped, JPEG 50": lambda image: jpeg(
        cropped(image.transpose(TURN.FLIP_LEFT_RIGHT), 0.95, 0.2, 0.7), 50
    ),
    "turned, cropped, gamma, dated": lambda image: dated(
        gamma(cropped(image.transpose(TURN.ROTATE_90), 0.92, 0.2, 0.7), 0.8)
    ),
}


def by_thumbnail(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether the rule of thumbnails alone joins two images."""
    colors = [entry.color[None] for entry in (first, second)]
    one, other = (perceptual_hashes(color)[0] for color in colors)
    near = int(np.bitwise_count(one ^ other)) <= MAX_DISTANCE
    return near and bool(correlations(*colors)[0] >= MIN_CORRELATION)


def odir(folder: Path) -> None:
    with (folder / "full_df.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    paths = [folder / "preprocessed_images" / row["filename"] for row in rows]
    subjects = [row["ID"] for row in rows]
    images = [Image.open(path).convert("RGB") for path in paths]
    start = time.monotonic()
    prints = [fingerprint(np.asarray(image)) for image in images]
    each = (time.monotonic() - start) / len(images)
    chosen = np.sort(np.random.default_rng(0).choice(len(images), COPIES, replace=False))
    print(f"{len(images)} photographs; a fingerprint takes {1000 * each:.1f} ms\n")
    print(f"| change | of {COPIES} by thumbnails | joined |\n|---|---:|---:|")
    fewest = COPIES
    for name, change in CHANGES.items():
        copies = [fingerprint(np.asarray(change(images[number]))) for number in chosen]
        before = sum(by_thumbnail(prints[number], copy) for number, copy in zip(chosen, copies, strict=True))
        pairs = near_pairs([*prints, *copies], [*subjects, *[""] * COPIES])
        joined = {(pair.first, pair.second) for pair in pairs}
        found = sum((int(number), len(prints) + place) in joined for place, number in enumerate(chosen))
        fewest = min(fewest, found)
        print(f"| {name} | {before} | {found} |", flush=True)
    start = time.monotonic()
    pairs = near_pairs(prints, subjects)
    seconds = time.monotonic() - start
    sizes = np.unique(subjects, return_counts=True)[1]
    compared = (len(images) ** 2 - int((sizes**2).sum())) // 2
    print(f"\n{len(pairs)} of {compared} pairs of different patients are joined, in {seconds:.1f} s:\n")
    print("| image | image | by thumbnails | correlation |\n|---|---|---|---:|")
    for pair in pairs:
        before_too = "yes" if by_thumbnail(prints[pair.first], prints[pair.second]) else "no"
        print(f"| {paths[pair.first].stem} | {paths[pair.second].stem} | {before_too} | {pair.correlation:.4f} |")
    print()
    show("found", fewest / COPIES, 0.95, "higher")
    show("false", len(pairs) / compared, 0.001, "lower")


def enlarging(cells: int, side: int) -> np.ndarray:
    """Matrix that enlarges a line of cells linearly: [side, cells]."""
    place = np.linspace(0, cells - 1, side)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))


def made(count: int) -> list[Fingerprint]:
    """Fingerprints of random fields with details of several scales; the last ones are mirrored copies of the first."""
    rng = np.random.default_rng(0)
    prints: list[Fingerprint] = []
    while len(prints) < count - MADE_COPIES:
        total = np.zeros((256, 64, 64), np.float32)
        for cells, weight in ((4, 40), (9, 25), (20, 20)):
            matrix = enlarging(cells, 64)
            total += weight * (matrix @ rng.normal(size=(256, cells, cells)) @ matrix.T).astype(np.float32)
        greys = np.clip(128 + total, 0, 255).astype(np.uint8)
        colors = np.repeat(greys.reshape(-1, 32, 2, 32, 2).mean(axis=(2, 4)).astype(np.uint8)[..., None], 3, axis=3)
        prints += [Fingerprint(color, grey) for color, grey in zip(colors.copy(), greys.copy(), strict=True)]
    prints = prints[: count - MADE_COPIES]
    for entry in prints[:MADE_COPIES]:
        assert entry.grey is not None
        prints.append(Fingerprint(entry.color[:, ::-1].copy(), entry.grey[:, ::-1].copy()))
    return prints


def cost(count: int) -> tuple[int, int, float, float, float]:
    """Copies found, other joins, seconds, processor seconds and peak GiB."""
    prints = made(count)
    start, before = time.monotonic(), time.process_time()
    pairs = near_pairs(prints, [""] * count)
    seconds, busy = time.monotonic() - start, time.process_time() - before
    copies = {(number, count - MADE_COPIES + number) for number in range(MADE_COPIES)}
    found = len(copies & {(pair.first, pair.second) for pair in pairs})
    return found, len(pairs) - found, seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def at_scale(sizes: Sequence[int]) -> None:
    print(f"| made images | of {MADE_COPIES} mirrored copies | other joins | seconds | processor seconds | peak GiB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in sizes:
        # A process of its own for each, so that the peak is its own.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found, others, seconds, busy, peak = pool.apply(cost, (count,))
        print(f"| {count} | {found} | {others} | {seconds:.1f} | {busy:.1f} | {peak:.2f} |", flush=True)
    print()
    show("minutes", seconds / 60, 5.0, "lower")
    show("gib", peak, 2.0, "lower")


def show(name: str, value: float, goal: float, better: str) -> None:
    print(json.dumps({"name": f"duplicates.{name}", "ratio": round(value, 7), "goal": goal, "better": better}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--odir", type=Path, help="folder with full_df.csv and preprocessed_images")
    parser.add_argument("--made", type=int, nargs="*", default=[10_000, 100_000], help="numbers of made images")
    options = parser.parse_args()
    if options.odir:
        odir(options.odir)
    if options.made:
        at_scale(options.made)


if __name__ == "__main__":
    main()
