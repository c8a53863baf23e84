"""Step 4 measured: matching with each image embedded once beside matching that embeds again for every pair of sides;
and every way to choose, at the same size, on one class of photographs.

    python benchmarks/matching.py
    python benchmarks/matching.py --odir ../shared/data/odir --class N --kept 300

Prints Markdown tables and, last, one JSON line per ratio: {"name", "ratio", "goal", "better"}. Without --odir the first
part runs on noise, whose features cost as much, and the second is left out. Fails when both ways of matching differ.

    matching         seconds of embedding again for each real image over those of embedding once
    matching.counted forwards of the first way over those of the second, for 1,000 real and 2,000 made images, by the
                     formula that the small comparison's count is held against
    matching.top10   share of 1,000 images whose ten nearest of 2,000 are, in order, those of a plain search in 32 bits;
                     it fails where other images are more than rounding apart
    herding          MMD² of the random control over that of herding
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from obstore.store import MemoryStore

from genaug.client.importers import open_source
from genaug.schema.classifiers import ClassifierSpec
from genaug.schema.run import ImportSpec
from genaug.schema.selection import SelectionMethod
from genaug.selection.choose import choose, choose_at_random, feature_space
from genaug.selection.kernel import Gaussian
from genaug.selection.nearest import find_pairs, unit
from genaug.selection.project import project
from genaug.selection.quality import coverage
from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.images.load_images import load_pixels
from genaug.vision.images.pixels import encode_png
from genaug.vision.models.classifiers import TrainedClassifier
from genaug.vision.models.networks import build_network

# Whole passes of the network, so that neither way is charged for filling up.
REAL, MADE = 8, 56
# What is searched: these, and features for them where there are no photographs.
SEARCHED_REAL, SEARCHED_MADE, WIDTH = 1000, 2000, 1280


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.monotonic()
    return work(), time.monotonic() - start


def put(store: Store, images: Sequence[bytes], kind: str) -> list[Row]:
    rows = []
    for data in images:
        digest = hashlib.sha256(data).hexdigest()
        key = f"images/{digest[:2]}/{digest}"
        store.put_new(key, data)
        rows.append(Row(digest[:32], key, digest, "", kind, split="train"))
    return rows


def noise(count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [encode_png(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)) for _ in range(count)]


def photographs(folder: Path, kind: str, *, share: float = 0.7) -> list[bytes]:
    """The training images of a class: those of `share` of its patients, drawn by their ids."""
    spec = ImportSpec(format="odir", images=str(folder / "preprocessed_images"), csv=str(folder / "full_df.csv"))

    def trains(subject: str) -> bool:
        return int(hashlib.sha256(subject.encode()).hexdigest()[:8], 16) / 16**8 < share

    return [image.read() for image in open_source(spec).images if image.class_name == kind and trains(image.subject)]


def embedded(model: TrainedClassifier, store: Store, rows: Sequence[Row]) -> np.ndarray:
    """Read, decoded and put through the network each time it is called: `features_of_rows` would use stored inputs."""
    return model.features(load_pixels(store, rows, image_size=model.image_size, channels=model.channels))


def compare_matching(model: TrainedClassifier, store: Store, rows: Sequence[Row]) -> tuple[float, float]:
    real, made = rows[:REAL], rows[REAL:]
    forwards = Counter[str]()
    way, preprocess = "", model.network.preprocess

    def counted(pixels: np.ndarray) -> np.ndarray:
        forwards[way] += len(pixels)
        return preprocess(pixels)

    model.network.preprocess = counted  # type: ignore[method-assign]

    def once() -> np.ndarray:
        features = unit(embedded(model, store, rows))
        return find_pairs(features[:REAL], features[REAL:]).made

    def again() -> np.ndarray:
        nearest = []
        for row in real:
            features = unit(embedded(model, store, [row, *made]))
            nearest.append(find_pairs(features[:1], features[1:]).made[0])
        return np.stack(nearest)

    once()  # the backbone is loaded, and its first pass is slow
    way = "once"
    mine, seconds = timed(once)
    way = "again"
    theirs, their_seconds = timed(again)
    model.network.preprocess = preprocess  # type: ignore[method-assign]
    if not np.array_equal(mine, theirs):
        raise SystemExit("the two ways name other images")
    print(f"\n{REAL} real and {MADE} made images, {model.image_size} px, {model.network.spec.backbone}\n")
    print("| matching | forwards | seconds |\n|---|---:|---:|")
    print(f"| each image embedded once | {forwards['once']} | {seconds:.2f} |")
    print(f"| made images embedded again for each real one | {forwards['again']} | {their_seconds:.2f} |")
    if (forwards["once"], forwards["again"]) != (REAL + MADE, REAL * (1 + MADE)):
        raise SystemExit("the forwards are not those of the formula")
    counted_ratio = SEARCHED_REAL * (1 + SEARCHED_MADE) / (SEARCHED_REAL + SEARCHED_MADE)
    return their_seconds / seconds, counted_ratio


def compare_search(features: np.ndarray) -> float:
    """The ten nearest of each of the first images among the others: ours, and a plain search in 32 bits."""
    real, made = features[:SEARCHED_REAL], features[SEARCHED_REAL : SEARCHED_REAL + SEARCHED_MADE]
    ours, seconds = timed(lambda: find_pairs(unit(real), unit(made)))

    def plainly() -> np.ndarray:
        a, b = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (real, made))
        return np.stack([np.argsort(1 - b @ row, kind="stable")[:10] for row in a])

    theirs, their_seconds = timed(plainly)
    same = (ours.made == theirs).all(axis=1)
    a, b = unit(real), unit(made)
    apart = [np.abs(1 - b[theirs[row]] @ a[row] - ours.made_distances[row]).max() for row in np.flatnonzero(~same)]
    print(f"\n{len(real)} images, their ten nearest of {len(made)}; {features.shape[1]} features\n")
    print("| search | seconds | the same ten, in order | others are apart by at most |\n|---|---:|---:|---:|")
    print(f"| ours, both directions | {seconds:.2f} | | |")
    print(f"| plain, 32 bits, one direction | {their_seconds:.2f} | {same.sum()} | {max(apart, default=0):.1e} |")
    if max(apart, default=0) > 1e-6:
        raise SystemExit("the searches find other images")
    return float(same.mean())


def compare_choices(features: np.ndarray, *, kept: int, seed: int) -> float:
    points, map_seconds = timed(lambda: project(features, seed=seed))
    space, space_seconds = timed(lambda: feature_space(features))
    kernel, kernel_seconds = timed(lambda: Gaussian.of(features, seed=seed))
    inner = Gaussian.of(space, seed=seed)
    print(f"\n{len(features)} images reduced to {kept}; seed {seed}\n")
    print("| choice | MMD² ×10³ | of 50 components | coverage | seconds |\n|---|---:|---:|---:|---:|")

    def shown(name: str, choices: Sequence[np.ndarray], seconds: str) -> float:
        mmd2 = float(np.mean([kernel.squared_mmd(chosen) for chosen in choices]))
        within = float(np.mean([inner.squared_mmd(chosen) for chosen in choices]))
        covered = float(np.mean([coverage(points, chosen, kept=kept) for chosen in choices]))
        print(f"| {name} | {mmd2 * 1e3:.3f} | {within * 1e3:.3f} | {covered:.3f} | {seconds} |")
        return mmd2

    by_method = {}
    for method in SelectionMethod:
        chosen, seconds = timed(lambda m=method: choose(points, space, method=m, kept=kept, seed=seed))
        by_method[method] = shown(method.name, [chosen], f"{seconds:.3f}")
    controls = [choose_at_random(len(features), kept=kept, seed=number, purpose="control") for number in range(50)]
    mean = shown("mean of 50 random controls", controls, "")
    print(
        f"\nShared by all: t-SNE map {map_seconds:.1f} s, principal components {space_seconds:.1f} s, "
        f"kernel means {kernel_seconds:.1f} s."
    )
    return mean / by_method[SelectionMethod.HERDING]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--odir", type=Path, help="folder of full_df.csv and preprocessed_images")
    parser.add_argument("--class", dest="kind", default="N")
    parser.add_argument("--kept", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    store = Store(MemoryStore(), "assembly", url="memory://")
    spec = ClassifierSpec(backbone="EFFICIENTNET_LITE0").completed(224, pre_resize=0)
    model = TrainedClassifier(("real", "made"), build_network(spec, channels=3, classes=2, seed=0))
    images = photographs(asked.odir, asked.kind) if asked.odir else noise(REAL + MADE)
    rows = put(store, images, asked.kind)
    ratio, forwards = compare_matching(model, store, rows[: REAL + MADE])
    ratios = [("matching", ratio, REAL / 2), ("matching.counted", forwards, 155.0)]
    searched = SEARCHED_REAL + SEARCHED_MADE
    features = np.random.default_rng(0).gamma(1.0, 1.0, (searched, WIDTH)).astype(np.float32)
    if asked.odir:
        features, seconds = timed(lambda: embedded(model, store, rows))
        print(f"\n{len(rows)} photographs of {asked.kind} embedded in {seconds:.1f} s.")
        shown = photographs(asked.odir, "D", share=1.0)[: searched - len(features)]
        others = embedded(model, store, put(store, shown, "D"))
        ratios.append(("matching.top10", compare_search(np.concatenate([features, others])), 1.0))
    else:
        ratios.append(("matching.top10", compare_search(features), 1.0))
    if asked.odir:
        ratios.append(("herding", compare_choices(features, kept=asked.kept, seed=asked.seed), 1.0))
    print()
    for name, ratio, goal in ratios:
        print(json.dumps({"name": name, "ratio": round(ratio, 3), "goal": goal, "better": "higher"}))


if __name__ == "__main__":
    main()
