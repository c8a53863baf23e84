from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from genaug.schema.classifiers import BACKBONES
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision.models.backbones import (
    EFFICIENTNET_LITE0,
    MOBILENET_V2,
    SMALL_CNN,
    VGG19,
    BackboneKind,
    backbone_kind,
    mobilenet_v2_of_timm,
)
from genaug.vision.models.weights import Weights, efficientnet_lite0


@pytest.mark.parametrize("size", [8, 9, 16, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_small_network_takes_tiny_images(size: int, channels: int) -> None:
    body = SMALL_CNN.build(image_size=size, channels=channels)
    assert body(torch.zeros(5, channels, size, size, dtype=torch.uint8)).shape == (5, SMALL_CNN.features, 1, 1)


@pytest.mark.parametrize("backbone", [EFFICIENTNET_LITE0, VGG19, MOBILENET_V2])
def test_large_networks_halve_five_times(backbone: BackboneKind) -> None:
    body = backbone.build(image_size=64, channels=3)
    with torch.inference_mode():
        assert body(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, backbone.features, 2, 2)


def test_pixels_are_brought_to_the_scale_that_the_weights_know() -> None:
    body = VGG19.build(image_size=32, channels=3)
    seen = []
    body.maps = lambda images: seen.append(images) or images  # type: ignore[method-assign,func-returns-value]
    body(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    # torchvision's: mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225 of values from 0 to 1.
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_the_registry_references_kinds_by_their_names(name: str) -> None:
    kind = backbone_kind(name)
    assert (kind.name, kind.imagenet is not None) == (name, BACKBONES.get(name).pretrained)


def test_another_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^classifier\.backbone: 'VGG16' is no backbone; did you mean VGG19"):
        backbone_kind("VGG16")


def test_pretrained_weights_are_taken() -> None:
    weights = efficientnet_lite0()
    body = EFFICIENTNET_LITE0.build(image_size=64, channels=3, weights=weights)
    name, tensor = next(iter(weights.tensors.items()))
    assert torch.equal(body.state_dict()[f"network.{name}"], tensor)


def test_weights_of_another_network_are_named() -> None:
    wrong = r"not VGG19's: features\.0\.bias is missing; .*and 2\d more$"
    with pytest.raises(FailedPrecondition, match=wrong) as caught:
        VGG19.build(image_size=32, channels=3, weights=Weights("0", {"features.0.weight": torch.zeros(1)}))
    assert caught.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize("backbone", [VGG19, MOBILENET_V2, EFFICIENTNET_LITE0])
def test_a_file_with_the_networks_own_names_is_taken(backbone: BackboneKind, tmp_path: Path) -> None:
    prefix = "" if backbone is EFFICIENTNET_LITE0 else "features."
    body = backbone.build(image_size=64, channels=3)
    own = {f"{prefix}{name}": tensor.contiguous() for name, tensor in body.network.state_dict().items()}
    file = tmp_path / "weights.safetensors"
    save_file({**own, **({"classifier.1.bias": torch.zeros(3)} if prefix else {})}, file)
    again = backbone.build(image_size=64, channels=3, weights=backbone.find_weights(str(file), None))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), np.uint8))
    with torch.inference_mode():
        assert torch.equal(again(pixels), body(pixels))


def test_the_names_of_timm_are_torchvisions() -> None:
    # As timm's MobileNetV2 lists them: stages of depthwise and inverted residual blocks between stem and head.
    blocks = {"conv_pw": ["weight"], "conv_dw": ["weight"], "conv_pwl": ["weight"]}
    norms = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    ends = {"conv_stem": ["weight"], "conv_head": ["weight"], "bn1": norms, "bn2": norms}
    theirs = [f"{part}.{what}" for part, whats in ends.items() for what in whats]
    for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(count):
            parts = {**blocks, "bn1": norms, "bn2": norms, "bn3": norms}
            if stage == 0:
                parts = {"conv_dw": ["weight"], "conv_pw": ["weight"], "bn1": norms, "bn2": norms}
            theirs += [f"blocks.{stage}.{block}.{part}.{what}" for part, whats in parts.items() for what in whats]
    body = MOBILENET_V2.build(image_size=64, channels=3)
    assert {mobilenet_v2_of_timm(name) for name in theirs} == {f"features.{name}" for name in body.network.state_dict()}
    assert mobilenet_v2_of_timm("classifier.weight") is None
