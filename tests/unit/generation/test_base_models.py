from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import Stores
from tests.tiny_base import write_tiny_base

from genaug.generation.generators.stable_diffusion.base_models import FILES, import_base, open_base
from genaug.shared.errors import FailedPrecondition, GenaugError, InvalidArgument, NotFound


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "copy"))


def test_a_directory_is_brought_into_the_store_whole(stores: Stores, base: Path) -> None:
    found = import_base(stores("finetune"), str(base))
    assert open_base(stores("generation"), found.name).files == found.files
    keys = {key for key, _ in stores("generation").list(f"{found.name}/")}
    assert keys == {f"{found.name}/{path}" for path in (*FILES, "base.json")}
    for path in FILES:
        assert stores("generation").get(f"{found.name}/{path}") == (base / path).read_bytes()


def test_its_name_is_its_contents(stores: Stores, base: Path, copy: Path, tmp_path: Path) -> None:
    store = stores("finetune")
    name = import_base(store, str(base)).name
    assert import_base(store, str(copy)).name == name
    (copy / "README.md").write_text("what is no part of it")
    assert import_base(store, str(copy)).name == name
    assert import_base(store, str(write_tiny_base(tmp_path / "other", seed=1))).name != name
    config = json.loads((copy / "unet/config.json").read_text())
    (copy / "unet/config.json").write_text(json.dumps(config | {"sample_size": 16}))
    assert import_base(store, str(copy)).name != name
    assert len(list(store.children("bases/"))) == 3


def test_one_that_was_half_brought_is_completed(stores: Stores, base: Path) -> None:
    store = stores("finetune")
    name = import_base(store, str(base)).name
    for path in ("base.json", "vae/config.json"):
        store.delete(f"{name}/{path}")
    with pytest.raises(NotFound):
        open_base(store, name)
    import_base(store, str(base)).unet()
    assert store.exists(f"{name}/vae/config.json")


def test_files_in_half_precision_are_found_by_their_other_name(stores: Stores, copy: Path) -> None:
    file = copy / "unet/diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert isinstance(import_base(stores("finetune"), str(copy)).unet(), torch.nn.Module)


def test_a_digest_pins_its_content(stores: Stores, base: Path) -> None:
    store = stores("finetune")
    name = import_base(store, str(base)).name
    digest = name.removeprefix("bases/")
    for source in (str(base), name):
        assert import_base(store, f"{source}#sha256={digest}").name == name
        with pytest.raises(InvalidArgument, match=f"is {name}, not bases/0000") as caught:
            import_base(store, f"{source}#sha256={'0' * 32}")
        assert caught.value.reason == "BASE_DIGEST_MISMATCH"


def unpickled(copy: Path) -> None:
    (copy / "unet/diffusion_pytorch_model.safetensors").rename(copy / "unet/diffusion_pytorch_model.bin")


def unpickled_text(copy: Path) -> None:
    (copy / "text_encoder/model.safetensors").rename(copy / "text_encoder/pytorch_model.bin")


def without_vocabulary(copy: Path) -> None:
    (copy / "tokenizer/vocab.json").unlink()


def without_index(copy: Path) -> None:
    (copy / "model_index.json").unlink()


def another_pipeline(copy: Path) -> None:
    (copy / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')


def no_json(copy: Path) -> None:
    (copy / "model_index.json").write_text("hello")


def a_list(copy: Path) -> None:
    (copy / "model_index.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (unpickled, "unet/diffusion_pytorch_model.safetensors is missing; pickled .* safe_serialization=True"),
        (unpickled_text, "text_encoder/model.safetensors is missing; pickled .* safe_serialization=True"),
        (without_vocabulary, r"tokenizer/vocab\.json is missing$"),
        (without_index, r"model_index\.json is missing$"),
        (another_pipeline, "_class_name StableDiffusionPipeline; Stable Diffusion 1 and 2"),
        (no_json, "_class_name StableDiffusionPipeline"),
        (a_list, "_class_name StableDiffusionPipeline"),
    ],
)
def test_what_is_no_base_is_refused_by_what_it_lacks(
    stores: Stores, copy: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(copy)
    with pytest.raises(FailedPrecondition, match=words) as caught:
        import_base(stores("finetune"), str(copy))
    assert caught.value.reason == "BAD_BASE"
    assert not list(stores("finetune").list("bases/"))


@pytest.mark.parametrize("wanted", ["someone/some-model", "/nowhere/at/all", "no model", "a/b/c"])
def test_what_is_no_directory_and_cannot_be_had_from_the_hub_is_refused(
    stores: Stores, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InvalidArgument, match="cannot be had from the Hugging Face Hub") as caught:
        import_base(stores("finetune"), wanted)
    assert caught.value.reason == "BASE_NOT_FOUND"


def test_a_model_of_the_hub_is_brought_like_a_directory(
    stores: Stores, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot_download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(base)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert import_base(stores("finetune"), "a/model").name == import_base(stores("finetune"), str(base)).name
    [(repository, patterns)] = asked
    assert repository == "a/model"
    assert not any(one.endswith(".bin") for one in patterns), "nothing pickled is fetched"


def test_no_other_base_takes_the_place_of_one_that_is_gone(stores: Stores) -> None:
    for find in (import_base, open_base):
        with pytest.raises(NotFound, match="no such base in the store") as caught:
            find(stores("finetune"), "bases/" + "0" * 32)
        assert caught.value.reason == "BASE_NOT_FOUND"


@pytest.mark.parametrize(
    "path", ["unet/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/merges.txt"]
)
def test_a_file_that_was_changed_in_the_store_is_named(stores: Stores, base: Path, path: str) -> None:
    store = stores("finetune")
    found = import_base(store, str(base))
    key = f"{found.name}/{path}"
    data = store.get(key)
    store.delete(key)
    store.put_new(key, data[:-1] + b"x")
    load = {"u": found.unet, "v": found.autoencoder, "t": found.text_encoder}[path[0]]
    with pytest.raises(FailedPrecondition, match=key) as caught:
        load()
    assert caught.value.reason == "DAMAGED_OBJECT"


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("unet/config.json", "{}", "unet cannot be loaded"),
        ("vae/config.json", '{"_class_name": "VQModel"}', "vae is a VQModel; AutoencoderKL and AutoencoderTiny"),
        ("tokenizer/vocab.json", "hello", "tokenizer cannot be loaded"),
        ("unet/diffusion_pytorch_model.safetensors", "hello", "unet cannot be loaded"),
    ],
)
def test_parts_that_no_library_can_load_are_named(
    stores: Stores, copy: Path, path: str, content: str, words: str
) -> None:
    (copy / path).write_text(content)
    found = import_base(stores("finetune"), str(copy))
    load = {"u": found.unet, "v": found.autoencoder, "t": found.text_encoder}[path[0]]
    with pytest.raises(GenaugError, match=words) as caught:
        load()
    assert caught.value.reason == "BAD_BASE"
    assert "/tmp" not in caught.value.message


def test_networks_are_frozen_and_in_the_number_format_that_is_asked_for(stores: Stores, base: Path) -> None:
    found = import_base(stores("finetune"), str(base))
    for network in (found.unet(torch.bfloat16), found.text_encoder(torch.bfloat16), found.autoencoder(torch.bfloat16)):
        for parameter in network.parameters():
            assert parameter.dtype == torch.bfloat16
            assert not parameter.requires_grad


def test_a_captions_numbers_do_not_depend_on_its_neighbours(stores: Stores, base: Path) -> None:
    text = import_base(stores("finetune"), str(base)).text_encoder()
    captions = ["a photograph of class 1", "", "a fundus eye " * 100]
    together = text.embed(captions)
    assert together.shape[:2] == (3, 77)
    for index, one in enumerate(captions):
        assert torch.equal(text.embed([one])[0], together[index])
    assert not torch.equal(together[0], together[1])
