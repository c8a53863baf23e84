"""Quality of a generator's images: accepted by the labeler, near to unseen real images, far from training images.

    python benchmarks/generator_quality.py --home ~/.local/share/genaug --run odir-5class-latents-… --sheet sheet.png

Of a run that has fine-tuned and trained its labeler. Draws images of each class anew and prints a Markdown table:

    accepted   share that the labeler takes for the class, above its threshold
    KID        kernel inception distance (Binkowski et al. 2018: unbiased MMD², cubic kernel) ×1000 on the labeler's
               backbone features, between as many drawn images as there are held-out training images of the class, and
               those: mean and standard deviation over 50 random choices
    floor      the same of as many training images that the generator has seen: real beside real
    nearest    median cosine distance from a drawn image to the nearest training image of its class, seen or not
    natural    the same from training images to those of other subjects
    copies     drawn images nearer than 99 of 100 training images are to their nearest
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genaug.generation.artifacts import read_record
from genaug.generation.finetune import hold_out, training_rows
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.generation.sampling.sampler_settings import read_sampler
from genaug.generation.sampling.sampling_server import SamplingServer
from genaug.schema.generators import ClassConditionalSpec, StableDiffusionSpec
from genaug.schema.model import read
from genaug.schema.requests import SamplerSettings
from genaug.schema.run import Run
from genaug.shared.manifest import Row
from genaug.shared.settings import GenerationSettings, StoreSettings
from genaug.shared.store import Store
from genaug.vision.images.load_images import load_pixels
from genaug.vision.images.pixels import encode_png, fitted
from genaug.vision.models.classifiers import load

Features = NDArray[np.float64]
CHOICES = 50
SHEET_COLUMNS = 12


def kid(a: Features, b: Features) -> float:
    """Unbiased squared MMD with the kernel (x·y / d + 1)³."""

    def kernel(x: Features, y: Features) -> Features:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def off_diagonal(x: Features) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return off_diagonal(a) + off_diagonal(b) - 2 * float(kernel(a, b).mean())


def chosen(source: Features, target: Features, rng: np.random.Generator) -> tuple[float, float]:
    """Mean and standard deviation of KID between random choices of `source`, as many as `target` has, and `target`."""
    size = min(len(source), len(target))
    kids = [kid(source[rng.choice(len(source), size, replace=False)], target) for _ in range(CHOICES)]
    return 1000 * float(np.mean(kids)), 1000 * float(np.std(kids))


def nearest(a: Features, b: Features, *, apart: NDArray[np.bool_] | None = None) -> Features:
    """Cosine distance of each of `a` to its nearest of `b`, of those that are `apart`."""
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (a, b)]
    distances = 1 - unit[0] @ unit[1].T
    if apart is not None:
        distances[~apart] = np.inf
    return distances.min(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--images", type=int, default=100, help="drawn of each class")
    parser.add_argument("--sheet", type=Path, help="PNG of some of them, a row per class")
    asked = parser.parse_args()
    store = Store.open(StoreSettings(url=f"file://{asked.home.absolute() / 'store'}"), "report")
    run = read(store, f"runs/{asked.run}/run.json", Run)
    records = [read_record(store, name) for name in run.step("finetune").results]
    record = next(record for record in records if record.spec.kind.learns)
    classes, settings = record.classes, record.spec.settings
    assert isinstance(settings, ClassConditionalSpec | StableDiffusionSpec)
    labeler = load(store.as_role("selection"), run.step("labeler").results[0], device="cpu")
    rows = training_rows(store, record.dataset_version, classes=classes)
    unseen = {row.image_id for row in hold_out(rows, share=settings.held_out, seed=record.spec.seed or 0)[1]}
    real = load_pixels(
        store, rows, image_size=labeler.image_size, channels=labeler.channels, pre_resize=labeler.pre_resize
    )
    real_features = labeler.extract_features(real).astype(np.float64)
    generation = run.spec.generation
    request = SamplerSettings(steps=generation.steps or 0, guidance_scale=generation.guidance_scale or 0.0)
    sampler = read_sampler(request, record)
    assert sampler is not None
    server = SamplingServer(store.as_role("generation"), GenerationSettings(), device="auto")
    generator = server.load(record.name)
    rng = np.random.default_rng(0)
    sheet = []
    print("| class | unseen | accepted | KID | floor | nearest | natural | copies |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in classes:
        requests = [ImageRequest(name, 99, index) for index in range(asked.images)]
        events = server.draw(generator, requests, sampler=sampler, client="", is_active=lambda: True)
        drawn = [event.pixels for event in events if isinstance(event, DrawnImage)]
        sheet.append(np.concatenate(drawn[:SHEET_COLUMNS], axis=1))
        shown = [fitted(image, image_size=labeler.image_size, channels=labeler.channels) for image in drawn]
        features = labeler.extract_features(np.stack(shown))
        _, probabilities = labeler.classify(features)
        mine = labeler.classes.index(name)
        sure = (probabilities.argmax(axis=1) == mine) & (probabilities[:, mine] >= labeler.thresholds[name])
        made = features.astype(np.float64)
        of_class = np.array([row.class_name == name for row in rows])
        held = np.array([row.image_id in unseen for row in rows])
        groups = np.array([_group(row) for row in rows])[of_class]
        natural = nearest(real_features[of_class], real_features[of_class], apart=groups[:, None] != groups[None, :])
        near = nearest(made, real_features[of_class])
        target, seen = real_features[of_class & held], real_features[of_class & ~held]
        ours, floor = (chosen(source, target, rng) for source in (made, seen))
        print(
            f"| {name} | {len(target)} | {sure.mean():.2f} | {ours[0]:.2f} ± {ours[1]:.2f} | {floor[0]:.2f} ± "
            f"{floor[1]:.2f} | {np.median(near):.3f} | {np.median(natural):.3f} | "
            f"{int((near < np.quantile(natural, 0.01)).sum())} |",
            flush=True,
        )
    server.close()
    if asked.sheet:
        asked.sheet.write_bytes(encode_png(np.concatenate(sheet)))


def _group(row: Row) -> str:
    return row.group_id or row.subject_id or row.image_id


if __name__ == "__main__":
    main()
