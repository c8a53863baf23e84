"""Base models: Stable Diffusion models to fine-tune, in diffusers' layout, named by their content.

bases/<digest>/<path>       the files of `FILES`, unchanged
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
from pydantic import JsonValue
from torch import Tensor, nn

from genaug.generation.generators.class_conditional.autoencoder import DIFFUSERS, Autoencoder
from genaug.schema.model import Model, read
from genaug.shared.digests import digest_of, sha256
from genaug.shared.errors import FailedPrecondition, InvalidArgument, NotFound
from genaug.shared.store import Store, damaged

# Path in the layout -> accepted names. Weights are safetensors: nothing is unpickled.
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
"""Files of a base."""

_DIGEST = "#sha256="
_COLLECTION = "bases/"
_PIPELINE = "StableDiffusionPipeline"


class BaseRecord(Model):
    """base.json."""

    name: str = ""
    files: dict[str, str]
    """sha256 of each file, by path."""


@dataclass(frozen=True)
class Base:
    """A base in the store."""

    name: str
    """ "bases/{digest}"."""
    store: Store = field(repr=False)
    files: Mapping[str, str]
    """sha256 of each file, by path."""

    def config(self, path: str) -> dict[str, JsonValue]:
        """One of its JSON files."""
        config: dict[str, JsonValue] = json.loads(self._read(path))
        return config

    @property
    def schedule(self) -> dict[str, JsonValue]:
        """Noise schedule: arguments of diffusers' schedulers."""
        return self.config("scheduler/scheduler_config.json")

    def unet(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The denoising network (UNet2DConditionModel)."""
        load = cast(Any, UNet2DConditionModel).from_pretrained
        return cast(nn.Module, self._load("unet", lambda folder: load(folder, torch_dtype=dtype)))

    def autoencoder(self, dtype: torch.dtype = torch.float32) -> Autoencoder:
        """The autoencoder of its latents."""
        kind = str(self.config("vae/config.json").get("_class_name"))
        if kind not in DIFFUSERS:
            raise _unusable(self.name, f"vae is a {kind}; {' and '.join(DIFFUSERS)} can be used")
        return Autoencoder(self._load("vae", lambda folder: DIFFUSERS[kind].from_pretrained(folder, torch_dtype=dtype)))

    def text_encoder(self, dtype: torch.dtype = torch.float32) -> TextEncoder:
        """The encoder of captions."""
        from transformers import CLIPTextModel, CLIPTokenizer
        from transformers.utils import logging

        # A progress bar in a server's log is noise.
        logging.disable_progress_bar()
        network = self._load("text_encoder", lambda folder: CLIPTextModel.from_pretrained(folder, dtype=dtype))
        tokenizer = self._load("tokenizer", CLIPTokenizer.from_pretrained)
        return TextEncoder(tokenizer, network)

    def _load(self, part: str, load: Callable[[str], Any]) -> Any:
        """Load one part of the layout with a library, from a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="genaug-base-") as folder:
            for path in self.files:
                if path.startswith(f"{part}/"):
                    (Path(folder) / path.rpartition("/")[2]).write_bytes(self._read(path))
            try:
                loaded = load(folder)
            # The files are not ours: libraries raise almost any exception on damaged ones.
            except Exception as error:
                lines = str(error).strip().splitlines()
                reason = lines[0][:200].replace(folder, part) if lines else type(error).__name__
                raise _unusable(self.name, f"{part} cannot be loaded ({reason})") from None
        if isinstance(loaded, nn.Module):
            loaded.eval().requires_grad_(False)
        return loaded

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
        """Token ids [n, length], padded or cut off to the encoder's length."""
        encoding = self._tokenizer(
            captions,
            padding="max_length",
            max_length=cast(Any, self.network).config.max_position_embeddings,
            truncation=True,
            return_tensors="pt",
        )
        return cast(Tensor, encoding.input_ids)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embeddings of tokens: the encoder's last states [n, length, width]."""
        return cast(Tensor, self.network(tokens)[0])

    def embed(self, captions: list[str]) -> Tensor:
        """Embeddings of captions, computed one by one, so that none depends on the others."""
        device = next(self.network.parameters()).device
        with torch.no_grad():
            return torch.cat([self(self.tokens([caption]).to(device)) for caption in captions])


def open_base(store: Store, name: str) -> Base:
    """Open the base "bases/{digest}".

    Raises:
        NotFound: reason BASE_NOT_FOUND; no other base is taken in its place.
    """
    try:
        record = read(store, f"{name}/base.json", BaseRecord)
    except NotFound:
        raise NotFound(
            f"{name}: no such base in the store; fine-tune from its directory again, which puts it there",
            reason="BASE_NOT_FOUND",
            base=name,
        ) from None
    return Base(name, store, record.files)


def import_base(store: Store, reference: str) -> Base:
    """Put the base that a run file names into the store, unless it is there.

    Args:
        store: As the identity "finetune".
        reference: A directory, "bases/{digest}", or an id of the Hub; with "#sha256={digest}" appended, its digest (the
            part after "bases/") must be that one.

    Raises:
        InvalidArgument: reason BASE_NOT_FOUND or BASE_DIGEST_MISMATCH.
        NotFound: reason BASE_NOT_FOUND, of a name in the store.
        FailedPrecondition: reason BAD_BASE; it is not in diffusers' layout, or holds no safetensors.
    """
    source, _, digest = reference.partition(_DIGEST)
    if source.startswith(_COLLECTION):
        base = open_base(store, source)
    elif Path(source).is_dir():
        base = _from_folder(store, Path(source), label=source)
    else:
        base = _from_folder(store, _from_hub(source), label=source)
    if _DIGEST in reference and base.name != f"{_COLLECTION}{digest}":
        raise InvalidArgument(
            f"generator.stable_diffusion.base: {source!r} is {base.name}, not {_COLLECTION}{digest}; it is another "
            "base, or was changed",
            reason="BASE_DIGEST_MISMATCH",
        )
    return base


def _from_folder(store: Store, folder: Path, *, label: str) -> Base:
    paths = {path: _file(folder, path, label=label) for path in FILES}
    with suppress(ValueError):
        index = json.loads(paths["model_index.json"].read_text())
        if isinstance(index, dict) and index.get("_class_name") == _PIPELINE:
            files = {path: _file_sha256(file) for path, file in paths.items()}
            name = f"{_COLLECTION}{digest_of('base/1', files)}"
            if not store.exists(f"{name}/base.json"):
                for path, file in paths.items():
                    store.put_new(f"{name}/{path}", file.read_bytes())
                store.put_new_json(f"{name}/base.json", BaseRecord(name=name, files=files).json_value())
            return Base(name, store, files)
    raise _unusable(
        label, f"model_index.json does not say _class_name {_PIPELINE}; Stable Diffusion 1 and 2 can be used"
    )


def _file(folder: Path, path: str, *, label: str) -> Path:
    for name in FILES[path]:
        if (folder / name).is_file():
            return folder / name
    pickled = (folder / path).with_suffix(".bin").is_file() or (folder / "text_encoder/pytorch_model.bin").is_file()
    hint = "; pickled weights are never read: save them with safe_serialization=True" if pickled else ""
    raise _unusable(label, f"{path} is missing{hint}")


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
            f"generator.stable_diffusion.base: {repository!r} is no directory where the fine-tuning runs, not of the "
            f"form bases/{{digest}}, and cannot be had from the Hugging Face Hub ({type(error).__name__}); no other "
            "model is taken in its place",
            reason="BASE_NOT_FOUND",
        ) from None


def _unusable(label: str, problem: str) -> FailedPrecondition:
    return FailedPrecondition(f"generator.stable_diffusion.base: {label}: {problem}", reason="BAD_BASE")
