"""Bases: the Stable Diffusion models that generators start from, in diffusers' layout, named by their content.

bases/<digest>/<path>       the files of `FILES` that a pipeline needs, as they came
bases/<digest>/base.json    written last: path -> sha256 of each
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from genaug.generation.generators.class_conditional.autoencoder import DIFFUSERS, Autoencoder
from genaug.shared.digests import digest_of, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store, damaged

# Path in the layout -> what it may be called instead. Weights are safetensors: nothing is unpickled.
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
FILES: dict[str, tuple[str, ...]] = {
    "model_index.json": ("model_index.json",),
    "scheduler/scheduler_config.json": ("scheduler/scheduler_config.json",),
    "text_encoder/config.json": ("text_encoder/config.json",),
    "text_encoder/model.safetensors": ("text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors"),
    "tokenizer/merges.txt": ("tokenizer/merges.txt",),
    "tokenizer/tokenizer_config.json": ("tokenizer/tokenizer_config.json",),
    "tokenizer/vocab.json": ("tokenizer/vocab.json",),
    "unet/config.json": ("unet/config.json",),
    f"unet/{_WEIGHTS[0]}": tuple(f"unet/{name}" for name in _WEIGHTS),
    "vae/config.json": ("vae/config.json",),
    f"vae/{_WEIGHTS[0]}": tuple(f"vae/{name}" for name in _WEIGHTS),
}
"""What a base consists of."""

_DIGEST = "#sha256="
_COLLECTION = "bases/"
_PIPELINE = "StableDiffusionPipeline"


@dataclass(frozen=True)
class Base:
    """A base in the store."""

    name: str
    """ "bases/{digest}"."""
    store: Store = field(repr=False)
    files: Mapping[str, str]
    """sha256 of each file, by path."""

    def config(self, path: str) -> dict[str, Any]:
        """One of its JSON files."""
        found: dict[str, Any] = json.loads(self._read(path))
        return found

    @property
    def schedule(self) -> dict[str, Any]:
        """The noise schedule, as diffusers' schedulers name its parts."""
        return self.config("scheduler/scheduler_config.json")

    def unet(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The denoising network (UNet2DConditionModel)."""
        load = cast(Any, UNet2DConditionModel).from_pretrained
        return cast(nn.Module, self._load("unet", lambda folder: load(folder, torch_dtype=dtype)))

    def autoencoder(self, dtype: torch.dtype = torch.float32) -> Autoencoder:
        """What turns images into latents and back."""
        kind = str(self.config("vae/config.json").get("_class_name"))
        if kind not in DIFFUSERS:
            raise _unusable(self.name, f"vae is a {kind}; {' and '.join(DIFFUSERS)} can be used")
        return Autoencoder(self._load("vae", lambda folder: DIFFUSERS[kind].from_pretrained(folder, torch_dtype=dtype)))

    def text_encoder(self, dtype: torch.dtype = torch.float32) -> TextEncoder:
        """What turns captions into the numbers that the network is told."""
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        # A bar in a server's log says nothing.
        logging.disable_progress_bar()
        network = self._load("text_encoder", lambda folder: CLIPTextModel.from_pretrained(folder, dtype=dtype))
        tokenizer = self._load("tokenizer", CLIPTokenizer.from_pretrained)
        return TextEncoder(tokenizer, network)

    def _load(self, part: str, load: Callable[[str], Any]) -> Any:
        """Let a library read one part of the layout from a folder that is there no longer than it needs."""
        with tempfile.TemporaryDirectory(prefix="genaug-base-") as folder:
            for path in self.files:
                if path.startswith(f"{part}/"):
                    (Path(folder) / path.rpartition("/")[2]).write_bytes(self._read(path))
            try:
                found = load(folder)
            # Files of somebody else's making: libraries raise almost anything.
            except Exception as error:
                lines = str(error).strip().splitlines()
                said = lines[0][:200].replace(folder, part) if lines else type(error).__name__
                raise _unusable(self.name, f"{part} cannot be loaded ({said})") from None
        if isinstance(found, nn.Module):
            found.eval().requires_grad_(False)
        return found

    def _read(self, path: str) -> bytes:
        key = f"{self.name}/{path}"
        data = self.store.get(key)
        if sha256(data) != self.files[path]:
            raise damaged(key, "its sha256 is another")
        return data


class TextEncoder(nn.Module):
    """CLIP's text encoder with its tokenizer."""

    def __init__(self, tokenizer: Any, network: nn.Module) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self.network = network

    def tokens(self, captions: list[str]) -> Tensor:
        """Token ids [n, length], padded; what is beyond the encoder's length is cut off."""
        found = self._tokenizer(
            captions,
            padding="max_length",
            max_length=cast(Any, self.network).config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        )
        return cast(Tensor, found.input_ids)

    def forward(self, tokens: Tensor) -> Tensor:
        """What the network is told: the encoder's last states [n, length, width]."""
        return cast(Tensor, self.network(tokens)[0])

    def embed(self, captions: list[str]) -> Tensor:
        """The same, of captions; one by one, so that a caption's numbers do not depend on its neighbours."""
        device = next(self.network.parameters()).device
        with torch.no_grad():
            return torch.cat([self(self.tokens([caption]).to(device)) for caption in captions])


def open_base(store: Store, name: str) -> Base:
    """The base "bases/{digest}".

    Raises:
        NotFound: reason BASE_NOT_FOUND; no other is taken in its place.
    """
    try:
        record = store.get_json(f"{name}/base.json")
    except NotFound:
        raise NotFound(
            f"{name}: no such base in the store; fine-tune from its directory again, which puts it there",
            reason="BASE_NOT_FOUND",
            base=name,
        ) from None
    return Base(name, store, record["files"])


def bring_base(store: Store, wanted: str) -> Base:
    """Have the base that a run file names in the store.

    Args:
        store: As the identity "finetune".
        wanted: A directory, "bases/{digest}", or an id of the Hub; "#sha256={digest}" after it says what its digest
            (the part after "bases/") must be.

    Raises:
        InvalidArgument: reason BASE_NOT_FOUND or BASE_DIGEST_MISMATCH.
        NotFound: reason BASE_NOT_FOUND, of a name in the store.
        FailedPrecondition: reason BAD_BASE: it is not in diffusers' layout, or holds no safetensors.
    """
    source, _, digest = wanted.partition(_DIGEST)
    if source.startswith(_COLLECTION):
        base = open_base(store, source)
    elif Path(source).is_dir():
        base = _from_folder(store, Path(source), said=source)
    else:
        base = _from_folder(store, _from_hub(source), said=source)
    if _DIGEST in wanted and base.name != f"{_COLLECTION}{digest}":
        raise InvalidArgument(
            f"generator.base: {source!r} is {base.name}, not {_COLLECTION}{digest}; it is another base, or was changed",
            reason="BASE_DIGEST_MISMATCH",
        )
    return base


def _from_folder(store: Store, folder: Path, *, said: str) -> Base:
    found = {path: _file(folder, path, said=said) for path in FILES}
    with suppress(ValueError):
        index = json.loads(found["model_index.json"].read_text())
        if isinstance(index, dict) and index.get("_class_name") == _PIPELINE:
            files = {path: _file_sha256(file) for path, file in found.items()}
            name = f"{_COLLECTION}{digest_of('base/1', files)}"
            if not store.exists(f"{name}/base.json"):
                for path, file in found.items():
                    store.put_new(f"{name}/{path}", file.read_bytes())
                store.put_new_json(f"{name}/base.json", {"name": name, "files": files})
            return Base(name, store, files)
    raise _unusable(
        said, f"model_index.json does not say _class_name {_PIPELINE}; Stable Diffusion 1 and 2 can be used"
    )


def _file(folder: Path, path: str, *, said: str) -> Path:
    for name in FILES[path]:
        if (folder / name).is_file():
            return folder / name
    pickled = (folder / path).with_suffix(".bin").is_file() or (folder / "text_encoder/pytorch_model.bin").is_file()
    hint = "; pickled weights are never read: save them with safe_serialization=True" if pickled else ""
    raise _unusable(said, f"{path} is missing{hint}")


def _file_sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=[name for names in FILES.values() for name in names]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InvalidArgument(
            f"generator.base: {repository!r} is no directory where the fine-tuning runs, not of the form "
            f"bases/{{digest}}, and cannot be had from the Hugging Face Hub ({type(error).__name__}); no other model "
            "is taken in its place",
            reason="BASE_NOT_FOUND",
        ) from None


def _unusable(said: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(f"generator.base: {said}: {what}", reason="BAD_BASE")
