"""A dataset version of 30,000 rows as a manifest, beside a folder of copies.

    python benchmarks/assembly.py

On small images of noise in a store on disk. Prints a Markdown table and a line of JSON, {"name", "ratio", "goal",
"better"}.

    manifest  seconds of copying every image over those of writing the manifest
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time

import numpy as np

from genaug.shared.manifest import Row, read_rows, write_rows
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store
from genaug.vision.images.pixels import encode_png

ROWS, IMAGES, SIDE = 30_000, 500, 64


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(StoreSettings(url=f"file://{folder}"), "assembly")
        rng = np.random.default_rng(0)
        contents = [encode_png(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(IMAGES)]
        digests = [hashlib.sha256(data).hexdigest() for data in contents]
        for data, digest in zip(contents, digests, strict=True):
            store.put_new(f"images/{digest[:2]}/{digest}", data)
        rows = [
            Row(f"{i:032x}", f"images/{digest[:2]}/{digest}", digest, digest, "abcde"[i % 5], "train", fold=i % 5)
            for i, digest in ((i, digests[i % IMAGES]) for i in range(ROWS))
        ]

        start = time.monotonic()
        write_rows(store, "datasets/d/versions/manifest/rows.parquet", rows)
        written = time.monotonic() - start
        start = time.monotonic()
        read_back = read_rows(store, "datasets/d/versions/manifest/rows.parquet")
        read = time.monotonic() - start

        start = time.monotonic()
        for row in rows:
            store.put_new(f"datasets/d/versions/copies/{row.image_id}", store.get(row.uri))
        copied = time.monotonic() - start
        if read_back != rows:
            raise SystemExit("the manifest gives other rows")
    print(f"{ROWS} rows, images of {len(contents[0]) // 1024} kB\n")
    print("| a version as | seconds |\n|---|---:|")
    print(f"| manifest, written | {written:.2f} |\n| manifest, read | {read:.2f} |\n| copies | {copied:.2f} |\n")
    ratio = round(copied / written, 1)
    print(json.dumps({"name": "assembly.manifest", "ratio": ratio, "goal": 10.0, "better": "higher"}))


if __name__ == "__main__":
    main()
