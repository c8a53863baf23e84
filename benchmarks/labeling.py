"""Labels of made images in full passes of the network, beside one image per pass.

    python benchmarks/labeling.py

On noise with EfficientNet-Lite0, whose cost does not depend on what is seen. Prints a Markdown table and a JSON line
{"name", "ratio", "goal", "better"}. Fails when the two ways label an image differently.

    batched  seconds of labelling one by one over those of labelling in full passes
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import torch

from genaug.vision.backbones import EFFICIENTNET_LITE0
from genaug.vision.classifiers import Classifier
from genaug.vision.networks import FINE_TUNED, build_network

IMAGES = 128


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    start = time.monotonic()
    return work(), time.monotonic() - start


def main() -> None:
    network = build_network(
        EFFICIENTNET_LITE0, image_size=224, channels=3, classes=5, seed=0, tuning=FINE_TUNED, weights="none"
    )
    labeler = Classifier(tuple("GCAHM"), network)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 224, 224, 3), np.uint8)

    def batched() -> np.ndarray:
        return labeler.predict(pixels)

    def one_by_one() -> np.ndarray:
        """What a loop over images would do: the same network, a pass of one."""
        with torch.inference_mode():
            return np.concatenate(
                [network(torch.from_numpy(network.prepare(one[None]))).softmax(1).numpy() for one in pixels]
            )

    together, alone = [], []
    # In turns, and the best of each: the first pass is slow, and a machine has other things to do.
    for _ in range(4):
        found, seconds = timed(batched)
        together.append(seconds)
        expected, seconds = timed(one_by_one)
        alone.append(seconds)
    if not np.allclose(found, expected, atol=1e-3):
        raise SystemExit("the two ways label differently")
    print(f"{IMAGES} images at 224 px, {EFFICIENTNET_LITE0}\n")
    print("| labelling | seconds |\n|---|---:|")
    print(f"| full passes | {min(together):.2f} |\n| one image per pass | {min(alone):.2f} |\n")
    line = {"name": "labeling.batched", "ratio": round(min(alone) / min(together), 2), "goal": 1.0, "better": "higher"}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
