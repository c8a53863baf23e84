"""Batches of training images from one decoded array, beside decoding the files of each batch again.

    python benchmarks/training_data.py
    python benchmarks/training_data.py --images ../shared/data/odir/preprocessed_images

Without --images on noise of the same size. Prints a Markdown table and a JSON line {"name", "ratio", "goal", "better"}.

    cached  seconds of decoding each batch's files over those of decoding once and gathering
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
from obstore.store import MemoryStore

from genaug.shared.manifest import Row
from genaug.shared.store import Store
from genaug.vision.images.load_images import load_pixels
from genaug.vision.images.pixels import encode_png

IMAGES, BATCH, BATCHES, SIDE = 256, 64, 100, 64


def contents(folder: Path | None) -> list[bytes]:
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.iterdir())[:IMAGES]]
    rng = np.random.default_rng(0)
    return [encode_png(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)) for _ in range(IMAGES)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs")
    asked = parser.parse_args()
    store = Store(MemoryStore(), "assembly", url="memory://")
    rows = []
    for data in contents(asked.images):
        digest = hashlib.sha256(data).hexdigest()
        store.put_new(f"images/{digest[:2]}/{digest}", data)
        rows.append(Row(digest[:32], f"images/{digest[:2]}/{digest}", digest, "", "a", split="train"))
    order = np.random.default_rng(1).integers(0, len(rows), (BATCHES, BATCH))

    start = time.monotonic()
    pixels = load_pixels(store, rows, image_size=SIDE, channels=3)
    total = sum(int(pixels[batch].sum()) for batch in order)
    cached = time.monotonic() - start

    start = time.monotonic()
    again = sum(int(load_pixels(store, [rows[i] for i in batch], image_size=SIDE, channels=3).sum()) for batch in order)
    decoded = time.monotonic() - start
    if total != again:
        raise SystemExit("the two ways give other pixels")
    print(f"{BATCHES} batches of {BATCH} of {len(rows)} images, brought to {SIDE} px\n")
    print("| training data | seconds |\n|---|---:|")
    print(f"| decoded once, gathered | {cached:.2f} |\n| decoded again for each batch | {decoded:.2f} |\n")
    line = {"name": "training_data.cached", "ratio": round(decoded / cached, 2), "goal": 5.0, "better": "higher"}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
