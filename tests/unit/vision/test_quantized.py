from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch

from genaug.schema.classifiers import ClassifierSpec, Tuning
from genaug.schema.common import Precision
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision.models.backbones import VGG19, Vgg19
from genaug.vision.models.networks import Network, build_network
from genaug.vision.models.quantized import QuantizedVgg19, _convolved, _even, ranges_of


@pytest.fixture(scope="module")
def body() -> Vgg19:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = VGG19.build(image_size=32, channels=3)
    assert isinstance(found, Vgg19)
    return found


def pictures(count: int, *, seed: int = 0, side: int = 32) -> torch.Tensor:
    """Smooth pictures, as photographs are: noise alone has nothing that a network could find."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 4, 4)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 255).round().to(torch.uint8)


def test_features_stay_near_those_of_32_bits(body: Vgg19) -> None:
    quantized = QuantizedVgg19(body, ranges_of(body, pictures(16))).eval()
    unseen = pictures(16, seed=1)
    with torch.inference_mode():
        exact, found = body(unseen).mean((2, 3)), quantized(unseen).mean((2, 3))
    assert found.dtype == torch.float32
    assert (found - exact).norm() / exact.norm() < 0.05


def test_an_image_alone_gives_the_same_numbers_as_in_company(body: Vgg19) -> None:
    quantized = QuantizedVgg19(body, ranges_of(body, pictures(4))).eval()
    together = pictures(5, seed=1)
    with torch.inference_mode():
        assert torch.equal(quantized(together)[3:4], quantized(together[3:4]))


def test_every_map_stays_in_7_bits(body: Vgg19, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for an image far outside what was measured: 8 bits could run over on processors without VNNI."""
    quantized = QuantizedVgg19(
        body, tuple(one._replace(largest=one.largest / 10) for one in ranges_of(body, pictures(4)))
    ).eval()
    seen: list[int] = []
    real = torch.ops.onednn.qconv_pointwise

    def noted(maps: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(int(maps.max()))
        return real(maps, *rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.onednn, "qconv_pointwise", noted)
    with torch.inference_mode():
        assert quantized(pictures(2, seed=1)).isfinite().all()
    assert max(seen) == 127


def test_the_integer_convolution_is_exact(body: Vgg19) -> None:
    """Against whole numbers: at most one is rounded differently."""
    ranges = ranges_of(body, pictures(4))
    layer = next(one for one in QuantizedVgg19(body, ranges)._layers if one is not None)
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.integers(0, 128, (2, 64, 12, 12)).astype(np.uint8))
    convolution = _even(body, [one.channels for one in ranges])[1]
    scales = (convolution.weight.abs().amax((1, 2, 3)) / 127)[:, None, None, None]
    weight = (convolution.weight / scales).round().detach().double()
    sums = torch.nn.functional.conv2d(maps.double(), weight, padding=1) * layer.incoming * scales[:, 0].double()
    exact = (sums + convolution.bias.detach().double()[:, None, None]) / layer.outgoing
    found = _convolved(maps.contiguous(memory_format=torch.channels_last), layer).double()
    assert (found - exact.clamp(0, 127)).abs().max() < 0.501


def test_uneven_channels_are_divided_and_taken_back(body: Vgg19) -> None:
    """A network of the same function whose channels reach a hundred times as far, or less, loses nothing by it."""
    uneven = copy.deepcopy(body)
    convolutions = [one for one in uneven.network if isinstance(one, torch.nn.Conv2d)]
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for layer, following in itertools.pairwise(convolutions):
            factors = torch.from_numpy(10.0 ** rng.uniform(-1, 1, len(layer.weight))).float()
            layer.weight.mul_(factors[:, None, None, None])
            layer.bias.mul_(factors)
            following.weight.div_(factors[None, :, None, None])
        unseen = pictures(8, seed=1)
        exact = body(unseen).mean((2, 3))
        torch.testing.assert_close(uneven(unseen).mean((2, 3)), exact, rtol=1e-3, atol=1e-4)
        found = QuantizedVgg19(uneven, ranges_of(uneven, pictures(16)))(unseen).mean((2, 3))
    assert (found - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("side", [33, 47])
def test_odd_sides_are_halved_as_in_32_bits(body: Vgg19, side: int) -> None:
    quantized = QuantizedVgg19(body, ranges_of(body, pictures(2, side=side))).eval()
    with torch.inference_mode():
        assert quantized(pictures(1, side=side)).shape == body(pictures(1, side=side)).shape


def vgg19() -> Network:
    spec = ClassifierSpec(backbone="VGG19", image_size=32, tuning=Tuning.FINE_TUNED, weights="none")
    return build_network(spec.completed(32, pre_resize=0), channels=3, classes=2, seed=0)


class TestNetworks:
    def test_a_network_that_was_not_measured_says_so(self) -> None:
        net = vgg19()
        with pytest.raises(FailedPrecondition) as caught:
            net.set_precision(Precision.INT8)
        assert caught.value.reason == "NOT_QUANTIZED"

    def test_other_backbones_say_so(self) -> None:
        spec = ClassifierSpec(backbone="EFFICIENTNET_LITE0", image_size=32).completed(32, pre_resize=0)
        net = build_network(spec, channels=3, classes=2, seed=0)
        with pytest.raises(InvalidArgument, match="VGG19 alone"):
            net.measure(np.zeros((1, 32, 32, 3), np.uint8))

    def test_a_measured_one_computes_in_8_bits(self) -> None:
        net = vgg19()
        pixels = pictures(4).permute(0, 2, 3, 1).numpy()
        exact = net.extract_features(pixels)
        net.measure(pixels)
        assert len(net.ranges) == 16
        net.set_precision(Precision.INT8)
        found = net.extract_features(pixels)
        assert not np.array_equal(found, exact)
        assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.05
