from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from tests.unit.generation.conftest import World

from genaug.generation.draw import draw
from genaug.generation.generators import Loader
from genaug.generation.receipts import Drawn, Sampler, Wanted

CPU = torch.device("cpu")
SAMPLER = Sampler(steps=3, guidance_scale=7.5, image_size=16)


def tensors(world: World, name: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(world.stores("generation").get(f"{name}/model.safetensors"))


def drawn(world: World, name: str, wanted: list[Wanted], sampler: Sampler = SAMPLER) -> list[Drawn]:
    generator = Loader(world.stores("generation"), device=CPU, memory_bytes=1 << 30).generator(name)
    return list(draw(generator, wanted, sampler=sampler, active=lambda: True))


def test_an_adapter_is_learnt_and_draws(world: World, base: Path) -> None:
    name = world.finetune_base(base)
    record = world.stores("generation").get_json(f"{name}/generator.json")
    assert record["base"].startswith("bases/")
    assert record["prompts"] == "generic@1"
    assert record["captions"]["lies"] == "a photograph of class lies"
    assert all(".lora_" in key and key.startswith("all/unet.") for key in tensors(world, name))
    images = drawn(world, name, [Wanted("lies", 0, 0), Wanted("stands", 0, 0)])
    assert [one.pixels.shape for one in images] == [(16, 16, 1)] * 2
    assert not np.array_equal(images[0].pixels, images[1].pixels)
