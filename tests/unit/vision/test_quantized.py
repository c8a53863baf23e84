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
from genaug.vision.models.quantized import _QuantizedConv, convert, prepare


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
    quantized = convert(body, prepare(body, pictures(16)))
    unseen = pictures(16, seed=1)
    with torch.inference_mode():
        exact, found = body(unseen).mean((2, 3)), quantized(unseen).mean((2, 3))
    assert found.dtype == torch.float32
    assert (found - exact).norm() / exact.norm() < 0.05


def test_an_image_alone_gives_the_same_numbers_as_in_company(body: Vgg19) -> None:
    quantized = convert(body, prepare(body, pictures(4)))
    together = pictures(5, seed=1)
    with torch.inference_mode():
        assert torch.equal(quantized(together)[3:4], quantized(together[3:4]))


def test_every_map_stays_in_7_bits(body: Vgg19, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for an image far outside what was measured: 8 bits could run over on processors without VNNI."""
    narrow = tuple(one._replace(largest=one.largest / 10) for one in prepare(body, pictures(4)))
    quantized = convert(body, narrow)
    seen: list[int] = []
    real = torch.ops.onednn.qconv_pointwise

    def noted(maps: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(int(maps.max()))
        return real(maps, *rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.onednn, "qconv_pointwise", noted)
    with torch.inference_mode():
        assert quantized(pictures(2, seed=1)).isfinite().all()
    assert max(seen) == 127


def test_torch_still_has_the_private_operators() -> None:
    """Fails when torch changes them; then look at `_QuantizedConv` before raising the version."""
    operators = torch.ops.onednn.qconv_prepack.default, torch.ops.onednn.qconv_pointwise.default
    assert [str(operator._schema) for operator in operators] == [
        "onednn::qconv_prepack(Tensor weight, Tensor w_scales, float x_scale, int x_zp, int[] stride, int[] padding, "
        "int[] dilation, int groups, int[]? x_shape=None) -> Tensor",
        "onednn::qconv_pointwise(Tensor qx, float x_scale, int x_zero_point, Tensor qw, Tensor w_scale, "
        "Tensor w_zero_point, Tensor? bias, int[] stride, int[] padding, int[] dilation, int groups, "
        "float output_scale, int output_zero_point, ScalarType? output_dtype, str attr, Scalar?[] scalars, "
        "str? algorithm) -> Tensor",
    ]


@pytest.mark.parametrize("output_scale", [0.02, None])
def test_the_integer_convolution_is_that_of_its_rounded_weights(output_scale: float | None) -> None:
    """Against the same convolution in floating point: at most the last step is rounded differently."""
    rng, input_scale = np.random.default_rng(0), 0.01
    convolution = torch.nn.Conv2d(64, 32, 3, padding=1).requires_grad_(False)
    convolution.weight.copy_(torch.from_numpy(rng.normal(scale=0.05, size=(32, 64, 3, 3))))
    convolution.bias.copy_(torch.from_numpy(rng.normal(size=32)))
    maps = torch.from_numpy(rng.integers(0, 128, (2, 64, 12, 12)).astype(np.uint8))

    scales = (convolution.weight.abs().amax((1, 2, 3)) / 127)[:, None, None, None]
    weight = (convolution.weight / scales).round() * scales
    exact = torch.nn.functional.conv2d(maps * input_scale, weight, convolution.bias, padding=1).relu()

    quantized = _QuantizedConv(convolution, input_scale, output_scale)
    found = quantized(maps.contiguous(memory_format=torch.channels_last))
    if output_scale is None:
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    else:
        steps = (exact / output_scale).clamp(max=127)
        assert found.dtype == torch.uint8
        assert (found - steps).abs().max() < 0.51
        assert (steps == 127).any()
        assert (steps == 0).any()


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
        found = convert(uneven, prepare(uneven, pictures(16)))(unseen).mean((2, 3))
    assert (found - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("side", [33, 47])
def test_odd_sides_are_halved_as_in_32_bits(body: Vgg19, side: int) -> None:
    quantized = convert(body, prepare(body, pictures(2, side=side)))
    with torch.inference_mode():
        assert quantized(pictures(1, side=side)).shape == body(pictures(1, side=side)).shape


def vgg19() -> Network:
    spec = ClassifierSpec(backbone="VGG19", image_size=32, tuning=Tuning.FINE_TUNED, weights="none")
    return build_network(spec.completed(32, pre_resize=0), channels=3, classes=2, seed=0)


def test_ranges_of_another_network_are_refused(body: Vgg19) -> None:
    with pytest.raises(FailedPrecondition, match="15 ranges of maps for 16 convolutions"):
        convert(body, prepare(body, pictures(1))[:-1])


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
