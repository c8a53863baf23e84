from __future__ import annotations

import pytest
import torch

from genaug.generation.training.distributed import Processes
from genaug.shared.errors import InvalidArgument

CPU = torch.device("cpu")


def test_one_process_is_alone() -> None:
    alone = Processes(CPU)
    assert (alone.count, alone.first, alone.device) == (1, True, CPU)
    assert alone.share(["all"]) == "all"
    assert alone.any(True)
    assert not alone.any(False)
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    assert alone.mean_gradients([weight], 3.0) == 3.0
    assert torch.equal(weight.grad, torch.ones(2))
    alone.wait()


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    Processes(CPU).check(batch_size=6, accumulation=3, path="generator.stable_diffusion")
    with pytest.raises(
        InvalidArgument, match=r"generator\.stable_diffusion\.batch_size: .* take a multiple of 4"
    ) as caught:
        Processes(CPU).check(batch_size=6, accumulation=4, path="generator.stable_diffusion")
    assert caught.value.reason == "BAD_TRAINING"
