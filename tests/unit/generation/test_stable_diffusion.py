from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.conftest import Stores
from tests.unit.generation.conftest import CLASSES, loader, low_rank, put_adapter

from genaug.generation.artifacts import read_artifact
from genaug.generation.generators import Loader
from genaug.generation.generators.stable_diffusion.base_models import import_base
from genaug.generation.generators.stable_diffusion.generator import (
    Config,
    Pipeline,
    PipelineResource,
    StableDiffusion,
    size_multiple,
)
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.schema.common import Precision
from genaug.schema.sampling import Sampler
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store

SAMPLER = Sampler(steps=3, guidance_scale=3.0)
REQUESTS = [ImageRequest(name, 0, index) for name in CLASSES for index in range(2)]


def images(
    generators: Loader, name: str, requests: Sequence[ImageRequest] = REQUESTS, sampler: Sampler = SAMPLER
) -> list[DrawnImage]:
    return list(draw(generators.generator(name), requests, sampler=sampler, is_active=lambda: True))


def same(one: Sequence[DrawnImage], other: Sequence[DrawnImage]) -> bool:
    return all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))


def test_adapters_take_turns_on_one_base_that_is_read_once(
    stores: Stores, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = put_adapter(stores, base, seed=1, text=True), put_adapter(stores, base, seed=2, targets=("to_k",))
    none = put_adapter(stores, base, targets=("nothing",))
    read: list[str] = []
    get = Store.get

    def counting(store: Store, key: str) -> bytes:
        read.append(key)
        return get(store, key)

    monkeypatch.setattr(Store, "get", counting)
    generators = loader(stores)
    own = images(generators, none)
    base_name = generators.generator(none).config.base  # type: ignore[union-attr]
    pipeline = generators.resource(PipelineResource(base_name, torch.float32))
    weights = {key: value.clone() for key, value in pipeline.unet.state_dict().items()}
    first, second, again = images(generators, one), images(generators, other), images(generators, one)
    assert same(first, again)
    assert not same(first, second)
    assert not same(first, own)
    assert same(images(generators, none), own)
    assert all(torch.equal(value, weights[key]) for key, value in pipeline.unet.state_dict().items())
    assert sum(key.endswith("unet/diffusion_pytorch_model.safetensors") for key in read) == 1
    assert same(images(loader(stores), other), second), "as on a base that no other adapter has changed"


def test_a_generator_that_left_memory_draws_as_before(stores: Stores, base: Path) -> None:
    names = [put_adapter(stores, base, seed=seed) for seed in (1, 2)]
    expected = [images(loader(stores), name) for name in names]
    small = loader(stores, memory_bytes=1)
    for _ in range(2):
        for name, known in zip(names, expected, strict=True):
            assert same(images(small, name), known)


def test_each_class_may_have_an_adapter_of_its_own(stores: Stores, base: Path) -> None:
    name = put_adapter(stores, base, per_class=True, captions=dict.fromkeys(CLASSES, "a photograph"))
    generators = loader(stores)
    found = images(generators, name)
    pipeline = generators.resource(PipelineResource(generators.generator(name).config.base, torch.float32))  # type: ignore[union-attr]
    tensors = safetensors.torch.load(read_artifact(stores("generation"), name).weights)
    for number, class_name in enumerate(CLASSES):
        part = {key.removeprefix(f"{number}/"): one for key, one in tensors.items() if key.startswith(f"{number}/")}
        alone = put_adapter(
            stores, base, tensors={f"all/{key}": one for key, one in part.items()},
            captions=dict.fromkeys(CLASSES, "a photograph"),
        )  # fmt: skip
        mine = [one for one in REQUESTS if one.class_name == class_name]
        assert same(images(generators, alone, mine), found[2 * number : 2 * number + 2])
    assert pipeline.nbytes > 0
    mixed = [REQUESTS[index] for index in (0, 2, 1, 3)]
    assert same(images(generators, name, mixed), [found[index] for index in (0, 2, 1, 3)])


def all_weights(stores: Stores, base: Path, *, text: bool) -> dict[str, torch.Tensor]:
    """The base's own, moved a little."""
    found = import_base(stores("finetune"), str(base))
    networks = {"unet": found.unet()} | ({"text_encoder": found.text_encoder().network} if text else {})
    random = torch.Generator().manual_seed(0)
    return {
        f"all/{name}.{key}": value + 0.05 * torch.randn(value.shape, generator=random)
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("text", [False, True])
def test_weights_may_be_all_its_own_and_leave_the_base_alone(stores: Stores, base: Path, text: bool) -> None:
    generators = loader(stores)
    none = put_adapter(stores, base, targets=("nothing",))
    before = images(generators, none)
    whole = put_adapter(
        stores, base, tensors=all_weights(stores, base, text=text), weights="WEIGHTS_ALL", rank=0, alpha=0.0
    )
    found = images(generators, whole)
    assert not same(found, before)
    assert same(images(generators, none), before)
    assert same(images(loader(stores), whole), found)
    adapted, generator = generators.generator(none), generators.generator(whole)
    assert generator.nbytes > 2 * adapted.nbytes, "its networks are counted as its own"


def test_drawing_starts_from_training_images_that_travel_along(stores: Stores, base: Path) -> None:
    name, generators = put_adapter(stores, base, latents=True), loader(stores)
    sampler = SAMPLER.replace(steps=4, strength=0.5)
    requests = [ImageRequest("lies", 5, index) for index in range(6)]
    found = images(generators, name, requests, sampler)
    parents = [one.parent_ids for one in found]
    assert sorted(parents[:3]) == sorted(parents[3:]) == [(f"lies-{number}",) for number in range(3)]
    assert {one.parent_ids for one in images(generators, name, requests)} == {()}
    weak = images(generators, name, requests, sampler.replace(steps=50, strength=0.02))
    strong = images(generators, name, requests, sampler.replace(steps=50, strength=0.9))
    # Of one parent, index and index + 3: they differ by their noise alone.
    apart = [np.abs(a[0].pixels.astype(int) - a[3].pixels).mean() for a in (weak, strong)]
    assert apart[0] < apart[1]


@pytest.mark.parametrize(
    ("latents", "sampler", "words"),
    [
        (False, Sampler(strength=0.5), r"sampler\.strength: .*keep_latents"),
        (True, Sampler(strength=0.5, image_size=32), r"sampler\.image_size: training latents are those of 16"),
        (False, Sampler(image_size=18), r"sampler\.image_size: 18 is not a multiple of 4, which bases/"),
    ],
)
def test_settings_that_it_cannot_draw_with_are_refused(
    stores: Stores, base: Path, latents: bool, sampler: Sampler, words: str
) -> None:
    generator = loader(stores).generator(put_adapter(stores, base, latents=latents))
    assert isinstance(generator, StableDiffusion)
    with pytest.raises(InvalidArgument, match=words) as caught:
        generator.check(sampler)
    assert caught.value.reason == "BAD_SAMPLER"
    generator.check(Sampler(image_size=32))
    generator.check(Sampler(strength=0.5 if latents else 0))


def test_other_sizes_and_colours_are_drawn(stores: Stores, base: Path) -> None:
    generators = loader(stores)
    [large] = images(generators, put_adapter(stores, base), REQUESTS[:1], SAMPLER.replace(image_size=36))
    [grey] = images(generators, put_adapter(stores, base, channels=1), REQUESTS[:1])
    assert large.pixels.shape == (36, 36, 3)
    assert grey.pixels.shape == (16, 16, 1)


def test_bfloat16_is_nearly_float32_and_the_adapter_is_in_it_too(stores: Stores, base: Path) -> None:
    generators = loader(stores)
    one, none = put_adapter(stores, base), put_adapter(stores, base, targets=("nothing",))
    low = SAMPLER.replace(precision=Precision.BFLOAT16)
    full, half, bare = (
        images(generators, one),
        images(generators, one, sampler=low),
        images(generators, none, sampler=low),
    )
    difference = [np.abs(a.pixels.astype(int) - b.pixels).mean() for a, b in zip(full, half, strict=True)]
    apart = [np.abs(a.pixels.astype(int) - b.pixels).mean() for a, b in zip(bare, half, strict=True)]
    assert 0 < np.mean(difference) < 0.5 * np.mean(apart)


def test_what_drawing_is_steered_away_from_changes_the_image(stores: Stores, base: Path) -> None:
    name, generators = put_adapter(stores, base), loader(stores)
    away = SAMPLER.replace(negative_prompt="a fundus eye")
    assert not same(images(generators, name), images(generators, name, sampler=away))
    unguided = SAMPLER.replace(guidance_scale=1.0)
    assert same(
        images(generators, name, sampler=unguided),
        images(generators, name, sampler=unguided.replace(negative_prompt="x")),
    )


def test_embeddings_that_are_kept_have_an_end(stores: Stores, base: Path) -> None:
    generator = loader(stores).generator(put_adapter(stores, base))
    assert isinstance(generator, StableDiffusion)
    with torch.inference_mode():
        for number in range(300):
            generator.begin(REQUESTS[:1], Sampler(negative_prompt=str(number)))
    assert len(generator._embeddings) == 256


def broken(stores: Stores, base: Path, change: str) -> dict[str, torch.Tensor]:
    network = import_base(stores("finetune"), str(base)).unet()
    random = torch.Generator().manual_seed(0)
    found = {f"all/unet.{key}": one for key, one in low_rank(network, ("to_q",), random).items()}
    first = min(found)
    if change == "missing":
        del found[first]
    elif change == "shape":
        found[first] = found[first][:, :-1].contiguous()
    elif change == "rank":
        return {f"all/unet.{key}": one for key, one in low_rank(network, ("to_q",), random, rank=3).items()}
    else:
        found["all/unet.nowhere.lora_A.weight"] = torch.zeros(2, 2)
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("missing", r"missing: unet\..*lora_A"),
        ("shape", r"of another shape: unet\..*lora_A"),
        ("rank", r"of another shape: unet\..*lora_A"),
        ("unknown", r"unknown: unet\.nowhere\.lora_A\.weight"),
    ],
)
def test_an_adapter_that_does_not_fit_its_base_is_refused_by_its_tensors(
    stores: Stores, base: Path, change: str, words: str
) -> None:
    name = put_adapter(stores, base, tensors=broken(stores, base, change))
    with pytest.raises(FailedPrecondition, match=words) as caught:
        images(loader(stores), name)
    assert caught.value.reason == "BROKEN_GENERATOR"


def test_weights_of_another_network_are_refused(stores: Stores, base: Path) -> None:
    whole = all_weights(stores, base, text=False)
    whole.pop("all/unet.conv_in.weight")
    name = put_adapter(stores, base, tensors=whole, weights="WEIGHTS_ALL", rank=0, alpha=0.0)
    with pytest.raises(FailedPrecondition, match=r"missing: unet\.conv_in\.weight"):
        images(loader(stores), name)


def test_parts_that_contradict_each_other_are_refused(stores: Stores, base: Path) -> None:
    store = stores("generation")
    plain, carrying = (read_artifact(store, put_adapter(stores, base, latents=latents)) for latents in (False, True))
    found = import_base(stores("finetune"), str(base))

    def unused(name: str, dtype: torch.dtype) -> Pipeline:
        raise AssertionError

    for artifact, words in [
        (dataclasses.replace(plain, weights=b"x" * 100), "cannot be read"),
        (dataclasses.replace(plain, config=carrying.config), "whether latents travel"),
        (dataclasses.replace(carrying, config=plain.config), "whether latents travel"),
    ]:
        with pytest.raises(FailedPrecondition, match=words):
            StableDiffusion(artifact, pipelines=unused, base=found, device=torch.device("cpu"))


def test_without_its_base_it_is_not_there(stores: Stores, base: Path) -> None:
    name = put_adapter(stores, base)
    for key, _ in list(stores("finetune").list("bases/")):
        stores("finetune").delete(key)
    with pytest.raises(NotFound, match="no such base") as caught:
        loader(stores).generator(name)
    assert caught.value.reason == "BASE_NOT_FOUND"


def test_a_base_that_was_changed_in_the_store_draws_nothing(stores: Stores, base: Path) -> None:
    name, store = put_adapter(stores, base), stores("finetune")
    key = next(key for key, _ in store.list("bases/") if key.endswith("unet/diffusion_pytorch_model.safetensors"))
    data = bytearray(store.get(key))
    data[-1] ^= 1
    store.delete(key)
    store.put_new(key, bytes(data))
    with pytest.raises(FailedPrecondition, match="its sha256 is another") as caught:
        images(loader(stores), name)
    assert caught.value.reason == "DAMAGED_OBJECT"


def test_the_configuration_comes_back_from_json(stores: Stores, base: Path) -> None:
    name = put_adapter(stores, base, latents=True, per_class=True)
    artifact = read_artifact(stores("generation"), name)
    config = artifact.parse_config(Config)
    assert config.stored() == artifact.config
    assert artifact.config["sources"][3] == ["stands", "stands-0"]
    assert config.parts == ("0", "1")
    assert [config.part(one) for one in CLASSES] == ["0", "1"]
    assert config.sources[3] == ("stands", "stands-0")


def test_sides_are_multiples_that_the_networks_say(stores: Stores, base: Path) -> None:
    assert size_multiple(import_base(stores("finetune"), str(base))) == 4
