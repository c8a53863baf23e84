from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.unit.generation.conftest import World

from genaug.generation.artefacts import read_artefact
from genaug.generation.autoencoder import CHANNELS, FILES, Decoder, _encoder, load_encoder
from genaug.generation.generators.class_conditional import ClassConditional
from genaug.generation.receipts import Sampler, Wanted
from genaug.shared.errors import FailedPrecondition, InvalidArgument

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both halves with weights at random, as their files lie in a folder."""
    torch.manual_seed(0)
    for name, network in zip(FILES, (_encoder(), Decoder().network), strict=True):
        safetensors.torch.save_file(network.state_dict(), tmp_path / name)
    return tmp_path


def test_latents_are_an_eighth_of_the_side(folder: Path) -> None:
    encoder = load_encoder(str(folder), device=CPU)
    latents = encoder.encode(torch.zeros(20, 3, 32, 32))
    assert latents.shape == (20, CHANNELS, 4, 4)
    decoder = Decoder()
    decoder.network.load_state_dict(encoder.decoder_weights)
    with torch.inference_mode():
        assert decoder(latents).shape == (20, 3, 32, 32)


def test_a_folder_without_them_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"does not hold taef2_encoder\.safetensors and taef2_decoder") as caught:
        load_encoder(str(tmp_path), device=CPU)
    assert caught.value.reason == "AUTOENCODER_NOT_FOUND"


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_weights_that_do_not_fit_are_refused(folder: Path, damage: str) -> None:
    file = folder / FILES[1]
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        safetensors.torch.save_file({"0.weight": torch.zeros(1)}, file)
    with pytest.raises(FailedPrecondition, match="get the file anew") as caught:
        load_encoder(str(folder), device=CPU)
    assert caught.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_drawn_in_latents_by_an_artefact_that_stands_alone(
    world: World, folder: Path, channels: int
) -> None:
    changes = {"image_size": 32, "channels": channels, "autoencoder": str(folder), "horizontal_flip": True}
    name = world.finetune(train_steps=2, sample_grids=1, **changes)
    record = world.stores("generation").get_json(f"{name}/generator.json")
    assert record["autoencoder_sha256"] == load_encoder(str(folder), device=CPU).sha256
    for file in FILES:
        (folder / file).unlink()
    generator = ClassConditional.load(read_artefact(world.stores("generation"), name), device=CPU)
    wanted = [Wanted(("lies", "stands")[index % 2], 0, index) for index in range(16)]
    sampler = Sampler(steps=2)
    together = generator.make(wanted, sampler=sampler, bucket=16, active=lambda: True)
    alone = generator.make(wanted[7:8], sampler=sampler, bucket=16, active=lambda: True)
    assert together is not None
    assert alone is not None
    assert together[7].pixels.shape == (32, 32, channels)
    assert np.array_equal(together[7].pixels, alone[0].pixels)
    config = read_artefact(world.stores("generation"), name).config
    assert len(config["latents"]["mean"]) == CHANNELS
    assert min(config["latents"]["std"]) > 0
