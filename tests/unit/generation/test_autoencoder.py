from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from tests.unit.generation.conftest import World

from genaug.generation.artifacts import read_artifact
from genaug.generation.generators.class_conditional.autoencoder import FILES, Taef2, build_autoencoder, load_autoencoder
from genaug.generation.generators.class_conditional.generator import ClassConditional, Config
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.sampling import Sampler
from genaug.shared.errors import FailedPrecondition, InvalidArgument

CPU = torch.device("cpu")
KINDS = ["Taef2", "AutoencoderKL", "AutoencoderTiny"]
CHANNELS, FACTOR = {"Taef2": 32, "AutoencoderKL": 4, "AutoencoderTiny": 4}, {"Taef2": 8}


def write(folder: Path, kind: str) -> Path:
    """An autoencoder with weights at random, as its files lie in a folder."""
    torch.manual_seed(0)
    if kind == "Taef2":
        pair = Taef2()
        for name, network in zip(FILES, (pair.encoder, pair.network), strict=True):
            safetensors.torch.save_file(network.state_dict(), folder / name)
    elif kind == "AutoencoderKL":
        AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, scaling_factor=0.2, shift_factor=0.1,
        ).save_pretrained(folder)  # fmt: skip
    else:
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_a_fraction_of_the_side(tmp_path: Path, kind: str) -> None:
    found, _ = load_autoencoder(str(write(tmp_path, kind)))
    factor = FACTOR.get(kind, 2)
    assert (found.factor, found.channels) == (factor, CHANNELS[kind])
    told: list[int] = []
    latents = found.means(torch.zeros(20, 3, 32, 32), on_progress=told.append)
    assert latents.shape == (20, CHANNELS[kind], 32 // factor, 32 // factor)
    assert told == [16, 20]
    with torch.inference_mode():
        assert found.decode(latents).shape == (20, 3, 32, 32)


def test_the_kl_autoencoder_is_scaled_and_shifted_as_diffusers_pipelines_do(tmp_path: Path) -> None:
    ours, _ = load_autoencoder(str(write(tmp_path, "AutoencoderKL")))
    theirs = AutoencoderKL.from_pretrained(tmp_path)
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        mean, std = ours.encode(image)
        spread = theirs.encode(image).latent_dist
        torch.testing.assert_close(mean, (spread.mean - 0.1) * 0.2)
        torch.testing.assert_close(std, spread.std * 0.2)
        # Float32 through many layers, summed in another order: relative to the pixels' range.
        decoded = theirs.decode(spread.mean).sample
        torch.testing.assert_close(ours.decode(mean), decoded, atol=1e-4 * float(decoded.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_decoding_needs_is_enough_to_decode(tmp_path: Path, kind: str) -> None:
    found, _ = load_autoencoder(str(write(tmp_path, kind)))
    config: dict[str, Any] = json.loads(json.dumps(found.config))
    other = build_autoencoder(config)
    latents = torch.randn(2, found.channels, 4, 4)
    with torch.inference_mode():
        assert not torch.equal(other.decode(latents), found.decode(latents)), "weights at random"
        other.load_decoder(found.decoder_tensors())
        assert torch.equal(other.decode(latents), found.decode(latents))
    assert not any(name.startswith("encoder.") for name in found.decoder_tensors())


@pytest.mark.parametrize("kind", KINDS)
def test_the_digest_is_that_of_its_files(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path, kind)
    digest = load_autoencoder(str(folder))[1]
    assert load_autoencoder(str(folder))[1] == digest
    [file] = [one for one in sorted(folder.iterdir()) if one.suffix == ".safetensors"][-1:]
    tensors = safetensors.torch.load_file(file)
    safetensors.torch.save_file({name: one + 1 for name, one in tensors.items()}, file)
    assert load_autoencoder(str(folder))[1] != digest


def test_a_folder_without_them_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"holds neither config\.json and .* nor taef2_encoder") as caught:
        load_autoencoder(str(tmp_path))
    assert caught.value.reason == "AUTOENCODER_NOT_FOUND"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, kind: str, damage: str) -> None:
    file = write(tmp_path, kind) / (FILES[1] if kind == "Taef2" else "diffusion_pytorch_model.safetensors")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        first = next(iter(safetensors.torch.load_file(file)))
        safetensors.torch.save_file({first: torch.zeros(1)}, file)
    with pytest.raises(FailedPrecondition, match=r"get (the file|its files) anew") as caught:
        load_autoencoder(str(tmp_path))
    assert caught.value.reason == "BAD_WEIGHTS"


@pytest.mark.parametrize("config", ["no JSON", "{}", '{"_class_name": "AutoencoderOfTomorrow"}', "[]"])
def test_another_autoencoder_is_refused(tmp_path: Path, config: str) -> None:
    (write(tmp_path, "AutoencoderKL") / "config.json").write_text(config)
    with pytest.raises(FailedPrecondition, match="AutoencoderKL or AutoencoderTiny"):
        load_autoencoder(str(tmp_path))


@pytest.mark.parametrize(("kind", "channels"), [("Taef2", 1), ("Taef2", 3), ("AutoencoderKL", 3)])
def test_images_are_drawn_in_latents_by_an_artefact_that_stands_alone(
    world: World, tmp_path: Path, kind: str, channels: int
) -> None:
    changes = {"image_size": 32, "channels": channels, "autoencoder": str(write(tmp_path, kind))}
    name = world.finetune(train_steps=2, sample_grids=1, horizontal_flip=True, **changes)
    artifact = read_artifact(world.stores("generation"), name)
    assert artifact.record.autoencoder_sha256 == load_autoencoder(str(tmp_path))[1]
    for file in tmp_path.iterdir():
        file.unlink()
    generator = ClassConditional.load(artifact, device=CPU)
    requests = [ImageRequest(("lies", "stands")[index % 2], 0, index) for index in range(16)]
    together = list(draw(generator, requests, sampler=Sampler(steps=2), is_active=lambda: True, bucket=16))
    [alone] = draw(generator, requests[7:8], sampler=Sampler(steps=2), is_active=lambda: True, bucket=16)
    assert alone.pixels.shape == (32, 32, channels)
    assert np.array_equal(together[7].pixels, alone.pixels)
    moments = artifact.parse_config(Config).latents
    assert moments
    assert len(moments.mean) == CHANNELS[kind]
    assert min(moments.std) > 0
