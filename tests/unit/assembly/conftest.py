"""Small real images and sources of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from genaug.assembly.import_dataset import Upload, import_dataset
from genaug.assembly.import_plan import SourceRow
from genaug.schema.common import Progress
from genaug.schema.datasets import Dataset
from genaug.schema.run import ImportSpec
from genaug.shared.digests import sha256
from genaug.shared.manifest import Split
from genaug.shared.store import Store

Photograph = Callable[[int], NDArray[np.uint8]]
Encode = Callable[..., bytes]
MakeSent = Callable[..., Upload]
RunImport = Callable[..., Dataset]


@pytest.fixture
def photograph() -> Photograph:
    """photograph(seed): smooth random colours, uint8 [48, 40, 3]; no two are alike."""

    def make(seed: int) -> NDArray[np.uint8]:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((40, 48), Image.Resampling.BICUBIC))

    return make


@pytest.fixture
def encode() -> Encode:
    """encode(pixels, "JPEG", **options): an encoded image."""

    def make(pixels: NDArray[np.uint8], format: str = "PNG", **options: object) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, format, **options)
        return sink.getvalue()

    return make


@pytest.fixture
def sent(photograph: Photograph, encode: Encode) -> MakeSent:
    """sent(seed or bytes, class_name, subject, split): a row and its content."""

    def make(
        content: int | bytes, class_name: str = "a", subject: str = "", split: Split | None = None, **attributes: str
    ) -> Upload:
        data = encode(photograph(content)) if isinstance(content, int) else content
        return SourceRow(sha256(data), f"original {content!s:.20}", class_name, subject, split, attributes), data

    return make


@pytest.fixture
def run_import() -> RunImport:
    """run_import(store, rows, import options): import rows in batches of five; return the dataset."""

    def run(store: Store, rows: Iterable[Upload], *, dataset: str = "d", **options: object) -> Dataset:
        listed = list(rows)
        batches = [listed[start : start + 5] for start in range(0, len(listed), 5)]
        *progress, last = import_dataset(dataset, ImportSpec(format="folder", **options), batches, store)
        assert all(isinstance(event, Progress) for event in progress)
        assert isinstance(last, Dataset)
        return last

    return run
