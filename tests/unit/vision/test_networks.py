from __future__ import annotations

import numpy as np
import pytest
import torch

from genaug.schema.classifiers import BACKBONES, BackboneInfo, ClassifierSpec, Head, Tuning
from genaug.shared.errors import InvalidArgument
from genaug.vision.models.backbones import BackboneKind, SmallCnn
from genaug.vision.models.networks import Network, build_network


def spec(backbone: str, image_size: int, **fields) -> ClassifierSpec:
    return ClassifierSpec(backbone=backbone, image_size=image_size, **fields).completed(image_size, pre_resize=0)


def small(size: int = 8, channels: int = 1, seed: int = 0) -> Network:
    return build_network(spec("SMALL_CNN", size), channels=channels, classes=3, seed=seed)


def frozen(size: int = 64, **fields) -> Network:
    return build_network(spec("EFFICIENTNET_LITE0", size, **fields), channels=1, classes=2, seed=0)


def fine_tuned(backbone: str, *, classes: int = 2, **fields) -> Network:
    tuned = spec(backbone, 32, tuning=Tuning.FINE_TUNED, weights="none", **fields)
    return build_network(tuned, channels=3, classes=classes, seed=0)


def test_inputs_features_logits() -> None:
    network = small(16, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    inputs = torch.from_numpy(network.preprocess(pixels))
    assert network.embed(inputs).shape == (5, network.features)
    assert network(inputs).shape == (5, 3)


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


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_images_have_one_channel_or_three(channels: int) -> None:
    with pytest.raises(InvalidArgument, match="1 or 3"):
        small(channels=channels)


def test_a_backbone_of_another_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object builds it; the registry's entry references that object."""
    monkeypatch.setitem(BACKBONES._entries, "OTHER", BackboneInfo(f"{__name__}:OTHER", 8, 64, 16, pretrained=False))
    network = build_network(
        ClassifierSpec(backbone="OTHER").completed(100, pre_resize=0), channels=1, classes=2, seed=0
    )
    assert (network.image_size, network.features) == (16, SmallCnn.FEATURES)
    assert network.extract_features(np.zeros((3, 16, 16, 1), np.uint8)).shape == (3, SmallCnn.FEATURES)


OTHER = BackboneKind("OTHER", SmallCnn.FEATURES, SmallCnn, channels=0)


class TestFrozen:
    def test_it_takes_color(self) -> None:
        assert frozen().channels == 3

    def test_only_the_head_learns_and_only_the_head_is_kept(self) -> None:
        network = frozen()
        assert {name for name, _ in network.named_parameters()} == {"head.weight", "head.bias"}
        assert set(network.state_dict()) == {"head.weight", "head.bias", "feature_mean", "feature_std"}
        assert len(network.weights_sha256) == 64

    def test_features_do_not_depend_on_who_shares_the_pass(self) -> None:
        network = frozen()
        pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
        together = network.preprocess(pixels)
        assert together.shape == (3, 1280)
        np.testing.assert_allclose(network.preprocess(pixels[1:2])[0], together[1], rtol=1e-5, atol=1e-6)

    def test_features_are_standardized_by_the_training_inputs(self) -> None:
        network = frozen()
        inputs = torch.from_numpy(np.random.default_rng(0).normal(5, 3, (200, 1280)).astype(np.float32))
        inputs[:, 0] = 2.0
        network.fit_inputs(inputs)
        features = network.embed(inputs)
        assert features.mean(0).abs().max() < 1e-3
        assert torch.allclose(features.std(0)[1:], torch.ones(1279), atol=0.02)
        assert torch.isfinite(features).all()

    def test_another_pre_resize_is_another_input(self) -> None:
        assert frozen(pre_resize=32).input_key != frozen().input_key

    def test_heads_share_their_features(self) -> None:
        assert frozen(head=Head.LOGISTIC).input_key == frozen(head=Head.PUBLISHED).input_key

    def test_the_dense_head_stands_on_maps(self) -> None:
        network = frozen(head=Head.DENSE)
        shapes = [tuple(p.shape) for name, p in network.head.named_parameters() if name.endswith("weight")]
        assert shapes == [(4096, 1280 * 49), (4096, 4096), (2, 4096)]
        pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
        seen = network.extract_features(pixels)
        assert seen.shape == (2, 1280 * 49)
        network.fit_inputs(torch.from_numpy(np.concatenate([seen, seen + 1])))
        penultimate, logits = network.classify(seen)
        assert (penultimate.shape, logits.shape) == ((2, 1280), (2, 2))
        np.testing.assert_allclose(logits, network(torch.from_numpy(seen)).detach().numpy(), rtol=1e-5, atol=1e-6)
        assert network.feature_space == f"{frozen().feature_space}-maps"


class TestFineTuned:
    @pytest.mark.parametrize("backbone", ["EFFICIENTNET_LITE0", "VGG19", "MOBILENET_V2"])
    def test_every_layer_learns(self, backbone: str) -> None:
        network = fine_tuned(backbone).train()
        pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        network(torch.from_numpy(network.preprocess(pixels))).square().sum().backward()
        first = next(parameter for name, parameter in network.named_parameters() if name.startswith("backbone."))
        assert first.grad is not None
        assert first.grad.abs().sum() > 0
        assert not network.weights_sha256

    def test_the_published_head(self) -> None:
        network = fine_tuned("VGG19", classes=5, head=Head.PUBLISHED)
        shapes = [tuple(p.shape) for name, p in network.head.named_parameters() if name.endswith("weight")]
        assert shapes == [(512,), (256, 512), (128, 256), (64, 128), (5, 64)]
        assert network.drop.p == 0.6


def test_a_finished_network_does_not_ask_for_its_first_weights() -> None:
    gone = spec("VGG19", 32, tuning=Tuning.FINE_TUNED, weights="/gone")
    assert build_network(gone, channels=3, classes=2, seed=0, weights_sha256="").spec == gone
