from __future__ import annotations

import pytest
import torch

from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision.backbones import EFFICIENTNET_LITE0, FEATURES, SMALL_CNN, VGG19, build_body, check_size
from genaug.vision.weights import Weights, efficientnet_lite0


@pytest.mark.parametrize("size", [8, 9, 16, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_small_network_takes_tiny_images(size: int, channels: int) -> None:
    body = build_body(SMALL_CNN, image_size=size, channels=channels, weights=None)
    assert body(torch.zeros(5, channels, size, size, dtype=torch.uint8)).shape == (5, FEATURES[SMALL_CNN], 1, 1)


@pytest.mark.parametrize("backbone", [EFFICIENTNET_LITE0, VGG19])
def test_large_networks_halve_five_times(backbone: str) -> None:
    body = build_body(backbone, image_size=64, channels=3, weights=None)
    with torch.inference_mode():
        assert body(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape == (2, FEATURES[backbone], 2, 2)


def test_pixels_are_brought_to_the_scale_that_the_weights_know() -> None:
    body = build_body(VGG19, image_size=32, channels=3, weights=None)
    seen = []
    body.maps = lambda images: seen.append(images) or images  # type: ignore[method-assign,func-returns-value]
    body(torch.full((1, 3, 32, 32), 255, dtype=torch.uint8))
    # torchvision's: mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225 of values from 0 to 1.
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        *((SMALL_CNN, size, "8 to 64") for size in (0, 7, 65, 224)),
        (VGG19, 31, "32 to 1024"),
        ("BACKBONE_VIT", 8, "VGG19"),
    ],
)
def test_other_sizes_and_names_are_refused(backbone: str, size: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        check_size(backbone, size)


def test_the_backbones_own_size() -> None:
    assert (check_size(VGG19, 0), check_size(EFFICIENTNET_LITE0, 0), check_size(SMALL_CNN, 28)) == (224, 224, 28)


def test_pretrained_weights_are_taken() -> None:
    weights = efficientnet_lite0()
    body = build_body(EFFICIENTNET_LITE0, image_size=64, channels=3, weights=weights)
    name, tensor = next(iter(weights.tensors.items()))
    assert torch.equal(body.state_dict()[f"network.{name}"], tensor)


def test_weights_of_another_network_are_named() -> None:
    with pytest.raises(FailedPrecondition, match="not VGG19's") as caught:
        build_body(VGG19, image_size=32, channels=3, weights=Weights("0", {"features.0.weight": torch.zeros(1)}))
    assert caught.value.reason == "BAD_WEIGHTS"
