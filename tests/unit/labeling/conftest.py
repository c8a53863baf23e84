"""One thread per network: tiny ones are slower on two, and far slower where tests share the cores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torchvision.models.vgg

from genaug.schema.classifiers import ClassifierSpec, Tuning
from genaug.vision.models.backbones import Vgg19


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def narrow_vgg19(monkeypatch: pytest.MonkeyPatch) -> ClassifierSpec:
    """VGG19 with all its convolutions and an eighth of their channels: 64 times fewer weights to train."""
    widths = [width if width == "M" else width // 8 for width in torchvision.models.vgg.cfgs["E"]]
    monkeypatch.setitem(torchvision.models.vgg.cfgs, "E", widths)
    monkeypatch.setattr(Vgg19, "FEATURES", Vgg19.FEATURES // 8)
    return ClassifierSpec(backbone="VGG19", image_size=32, tuning=Tuning.FINE_TUNED, weights="none")
