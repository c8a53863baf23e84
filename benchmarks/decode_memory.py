"""Memory of decoders: hostile files one by one, five of them in one call, and an import of large photographs.

    python benchmarks/decode_memory.py [--photographs 1000]

Each row is a process of its own. Of a file, the growth of its resident memory from before to the highest point of
decoding and fitting to 224 pixels; of a server, its highest resident memory. Prints a Markdown table and a line of
JSON, {"name", "ratio", "goal", "better"}.

    sixteen_bit  MiB of the PNG of 8000×8000 pixels with 16 bits per value
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from genaug.schema.datasets import Window

MIB = 1 << 20
SIDE = 8000
GOAL = 400
WINDOW = Window(low=0, high=65535)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **options)
    return sink.getvalue()


def hostile(value: float, kind: type, **options: object) -> bytes:
    """An image that is all but one pixel alike: small as a file, large when decoded."""
    values = np.full((SIDE, SIDE), value, kind)
    values[0, 0] = 0
    return encoded(Image.fromarray(values), options.pop("format"), **options)


FILES: dict[str, Callable[[], bytes]] = {
    "16-bit grey PNG": lambda: hostile(40_000, np.uint16, format="PNG"),
    "RGBA PNG": lambda: encoded(Image.new("RGBA", (SIDE, SIDE), (9, 99, 199, 128)), "PNG"),
    "1-bit TIFF": lambda: encoded(Image.new("1", (SIDE, SIDE), 1), "TIFF", compression="group4"),
    "float TIFF": lambda: hostile(30_000, np.float32, format="TIFF", compression="tiff_adobe_deflate"),
    "RGB JPEG": lambda: encoded(Image.new("RGB", (SIDE, SIDE), (9, 99, 199)), "JPEG"),
}


def highest(pid: int | str = "self") -> float:
    """Highest resident memory of a process, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def decode_one(path: Path) -> None:
    """Print the growth of memory by one file, in this process."""
    from genaug.vision.images.pixels import encode_png, fitted, is_constant, with_pixels

    def use(pixels: np.ndarray) -> None:
        is_constant(pixels)
        fitted(pixels, image_size=224, channels=3)

    with_pixels(encode_png(np.zeros((50, 50, 3), np.uint8)), use)
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the highest point so far is forgotten
    before = highest()
    with_pixels(data, use, window=WINDOW)
    print(highest() - before)


@contextmanager
def server(service: str, folder: Path) -> Iterator[tuple[str, int]]:
    """A server of one service over a store in `folder`; its address and process."""
    address = f"unix:{folder}/{service}.sock"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENAUG_")} | {
        "GENAUG_HOME": str(folder),
        "GENAUG_SERVER__ADDRESS": address,
    }
    process = subprocess.Popen([sys.executable, "-m", "genaug.cli", "serve", service], env=environment)
    try:
        while not Path(address.removeprefix("unix:")).exists():
            time.sleep(0.1)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


def label_five(folder: Path, data: bytes) -> float:
    """Highest memory of the labeling server, with five of these images in one call."""
    from genaug.client import Client
    from genaug.schema.classifiers import Classifier, ClassifierSpec
    from genaug.shared.settings import StoreSettings
    from genaug.shared.store import Store
    from genaug.vision.models.classifiers import TrainedClassifier, save
    from genaug.vision.models.networks import build_network

    spec = ClassifierSpec(backbone="SMALL_CNN", image_size=64).completed(64, pre_resize=0)
    network = build_network(spec, channels=1, classes=2, seed=0)
    name, store = "classifiers/" + "a" * 32, Store.open(StoreSettings(url=f"file://{folder}/store"), "train")
    save(store, TrainedClassifier(("a", "b"), network, window=WINDOW), name=name, record=Classifier())
    with server("labeling", folder) as (address, pid), Client(address) as client:
        if [result.status.reason for result in client.label_images(name, [data] * 5)] != ["OK"] * 5:
            raise SystemExit("an image was not labelled")
        return highest(pid)


def import_photographs(folder: Path, count: int) -> tuple[float, float]:
    """Highest memory of the assembly server, and seconds, of an import of photographs of 24 megapixels."""
    from genaug.client import Client
    from genaug.client.importers import SourceImage
    from genaug.schema.run import ImportSpec

    def photograph(number: int) -> bytes:
        coarse = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        return encoded(Image.fromarray(coarse).resize((6000, 4000), Image.Resampling.BILINEAR), "JPEG", quality=90)

    source = folder / "photographs"
    source.mkdir()
    images = []
    for number in range(count):
        path = source / f"{number}.jpg"
        path.write_bytes(photograph(number))
        images.append(SourceImage(path.name, "ab"[number % 2], f"p{number}", "", {}, path.read_bytes))
    with server("assembly", folder) as (address, pid), Client(address) as client:
        start = time.monotonic()
        client.import_dataset("photographs", images, spec=ImportSpec(format="folder"))
        return highest(pid), time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photographs", type=int, default=100)
    parser.add_argument("--one", type=Path)
    options = parser.parse_args()
    if options.one:
        decode_one(options.one)
        return
    growth = {}
    print("| 64 megapixels as | file, kB | memory, MiB |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in FILES.items():
            path = Path(folder) / "image"
            path.write_bytes(make())
            command = [sys.executable, __file__, "--one", str(path)]
            growth[name] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(f"| {name} | {path.stat().st_size // 1024} | {growth[name]:.0f} |", flush=True)
        five = label_five(Path(folder), FILES["16-bit grey PNG"]())
        print(f"| five 16-bit PNGs in one call, labeling server | | {five:.0f} |", flush=True)
        if options.photographs:
            peak, seconds = import_photographs(Path(folder), options.photographs)
            print(
                f"| {options.photographs} JPEGs of 24 megapixels imported in {seconds:.0f} s, server | | {peak:.0f} |"
            )
    ratio = round(growth["16-bit grey PNG"])
    print()
    print(json.dumps({"name": "decode_memory.sixteen_bit", "ratio": ratio, "goal": GOAL, "better": "lower"}))


if __name__ == "__main__":
    main()
