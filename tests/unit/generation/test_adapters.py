from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from genaug.generation.generators.stable_diffusion.adapters import DOWN, UP, MergedAdapter, expected_shapes, product


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.to_q = nn.Linear(6, 4)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.point = nn.Conv2d(5, 2, 1)
        self.untouched = nn.Linear(4, 4)

    def forward(self, flat: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.untouched(self.to_q(flat)), self.point(self.conv(image))


NAMES = ("to_q", "conv", "point")


def adapter(seed: int, names: tuple[str, ...] = NAMES, rank: int = 2) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    shapes = expected_shapes(Network(), {name + DOWN: torch.empty(0) for name in names}, rank=rank)
    return {key: torch.randn(one.shape, generator=source) for key, one in sorted(shapes.items())}


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sets(st.sampled_from(NAMES)), st.sampled_from([0.1, 1.0, 7.0]))),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
@settings(max_examples=40)
def test_weights_are_those_of_the_last_adapter_alone_and_its_own_without_one(
    put: list[tuple[int, set[str], float]], dtype: torch.dtype
) -> None:
    network = Network().to(dtype)
    own, merged = weights(network), MergedAdapter(network)
    for seed, names, scale in put:
        merged.merge(adapter(seed, tuple(sorted(names))), scale=scale)
        fresh = Network().to(dtype)
        MergedAdapter(fresh).merge(adapter(seed, tuple(sorted(names))), scale=scale)
        found, expected = weights(network), weights(fresh)
        assert all(torch.equal(found[key], expected[key]) for key in own)
    merged.merge({}, scale=1.0)
    back = weights(network)
    assert all(torch.equal(back[key], own[key]) for key in own)


@pytest.mark.parametrize("rank", [1, 4])
def test_a_merged_network_says_what_peft_says(rank: int) -> None:
    alpha = 3.0
    theirs = inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(NAMES)), Network())
    tensors = {}
    for key, value in theirs.named_parameters():
        if ".lora_" in key:
            value.data = torch.randn_like(value)
            tensors[key.replace(".default.weight", ".weight")] = value.detach()
    assert len(tensors) == 6
    ours = Network()
    MergedAdapter(ours).merge(tensors, scale=alpha / rank)
    flat, image = torch.randn(5, 6), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        for one, other in zip(ours(flat, image), theirs(flat, image), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)  # float32 sums in another order
        assert not torch.allclose(ours(flat, image)[0], Network()(flat, image)[0], atol=0.1)


def test_shapes_that_are_expected_are_those_of_peft() -> None:
    theirs = inject_adapter_in_model(LoraConfig(r=3, target_modules=list(NAMES)), Network())
    found = {k.replace(".default.weight", ".weight"): v.shape for k, v in theirs.named_parameters() if ".lora_" in k}
    names = {name + end: torch.empty(0) for name in NAMES for end in (DOWN, UP)}
    assert {key: value.shape for key, value in expected_shapes(Network(), names, rank=3).items()} == found
    assert expected_shapes(Network(), {"nowhere" + DOWN: torch.empty(0)}, rank=3) == {}


def test_a_product_is_in_float32_whatever_it_is_made_of() -> None:
    down, up = torch.randn(2, 6), torch.randn(4, 2)
    found = product(down.bfloat16(), up.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, up.bfloat16().float() @ down.bfloat16().float())


def test_only_weights_that_were_touched_are_kept_twice() -> None:
    network = Network()
    merged = MergedAdapter(network)
    assert merged.nbytes == 0
    merged.merge(adapter(0, ("to_q",)), scale=1.0)
    assert merged.nbytes == 4 * network.to_q.weight.numel()
