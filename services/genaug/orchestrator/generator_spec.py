"""The run file's `generator`, and what `generation` has to do with it: checked and completed, by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genaug.orchestrator.fields import Numbers, Spec, bad, fill
from genaug.shared.errors import InvalidArgument

CLASS_CONDITIONAL, TRANSFORMS = "KIND_CLASS_CONDITIONAL", "KIND_TRANSFORMS"
STABLE_DIFFUSION = "KIND_STABLE_DIFFUSION"
PUBLISHED = "PRESET_PUBLISHED"

_ANY: Numbers = {
    "seed": (0, 0, 2**53),
    "held_out": (0.05, 0, 0.5),
    "sample_grids": (4, 0, 50),
}
_FROM_SCRATCH: Numbers = {
    "train_steps": (800, 1, 1_000_000),
    "batch_size": (64, 1, 4096),
    "learning_rate": (0.003, 1e-7, 1.0),
    "ema_decay": (0.995, 0, 0.99999),
    "base_channels": (32, 8, 512),
    "patch_size": (0, 0, 4),
}
_FROM_BASE: Numbers = {
    "train_steps": (800, 1, 1_000_000),
    "batch_size": (4, 1, 4096),
    "learning_rate": (0.0001, 1e-7, 1.0),
    "ema_decay": (0.99, 0, 0.99999),
    "accumulation": (1, 1, 4096),
    "min_snr": (5.0, 0, 1000),
    "memorised": (0.25, 0, 1),
}
_LORA: Numbers = {"rank": (8, 1, 512), "alpha": (0, 0, 1024)}
_DREAMBOOTH: Numbers = {"prior_images": (50, 0, 10_000), "prior_weight": (1.0, 0, 100)}

_WORDS: dict[str, Any] = {"precision": "PRECISION_FLOAT32", "horizontal_flip": False}
_FROM_BASE_WORDS: dict[str, Any] = {
    "method": "METHOD_LORA",
    "prompts": "disease-specific",
    "weights": "WEIGHTS_ADAPTER",
    "decay": "DECAY_COSINE",
    "text_encoder": False,
    "gradient_checkpointing": False,
    "eight_bit_adam": False,
    "keep_latents": False,
}
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]

# Aktas et al. 2024, reconstructed from the notebook that its packages are those of (ShivamShrirao's DreamBooth).
_PUBLISHED: Spec = {
    "method": "METHOD_DREAMBOOTH",
    "weights": "WEIGHTS_ALL",
    "text_encoder": True,
    "image_size": 512,
    "train_steps": 800,
    "batch_size": 1,
    "learning_rate": 0.000001,
    "decay": "DECAY_CONSTANT",
    "ema_decay": 0.0,
    "min_snr": 0.0,
    "memorised": 1.0,
    "eight_bit_adam": True,
    "seed": 1337,
    "precision": "PRECISION_BFLOAT16",
    "dreambooth": {"prior_images": 50, "prior_weight": 1.0, "per_class": True},
}

DRAWING: Spec = {"steps": 25, "guidance_scale": 7.5}
"""What `generation` draws stable-diffusion images with by default."""
PUBLISHED_DRAWING: Spec = {"steps": 50, "guidance_scale": 7.5, "scheduler": "DDIMScheduler", "seed": 52362}
"""The same as the published study, as far as it can be reconstructed."""

# Largest side at which the velocity is predicted, and which is drawn in pixels, and in an autoencoder's latents.
_LARGEST_VELOCITY = 32
_LARGEST_PIXELS, _LARGEST_LATENTS = 64, 512
# Of a base: what it was trained at, and what a message can carry.
_USUAL_SIDE, _LARGEST_SIDE = 512, 1024


def generator_with_defaults(given: Mapping[str, Any]) -> Spec:
    """A GeneratorSpec with the defaults of its kind, but for those that depend on the dataset.

    Raises:
        InvalidArgument: a value is out of range, or is for another kind.
    """
    kind = given.get("kind", CLASS_CONDITIONAL)
    _check_kind(given, kind)
    if kind != STABLE_DIFFUSION:
        result: Spec = {"kind": kind, "autoencoder": "", **_WORDS, **given}
        fill(result, _ANY | _FROM_SCRATCH, prefix="generator.")
        return result
    preset = _PUBLISHED if given.get("preset") == PUBLISHED else {}
    result = {"kind": kind, **_WORDS, **_FROM_BASE_WORDS, **preset, **given}
    fill(result, _ANY | _FROM_BASE, prefix="generator.")
    if result["weights"] == "WEIGHTS_ADAPTER":
        lora = {"targets": _TARGETS, **given.get("lora", {})}
        fill(lora, _LORA, prefix="generator.lora.")
        lora["alpha"] = lora["alpha"] or float(lora["rank"])
        result["lora"] = lora
    elif "lora" in given:
        raise _fail("lora", "weights ALL has no adapter; leave one of both out")
    if result["method"] == "METHOD_DREAMBOOTH":
        defaults = {"token": "sks", "prior_caption": "a photograph", "per_class": False}
        dreambooth = {**defaults, **preset.get("dreambooth", {}), **given.get("dreambooth", {})}
        fill(dreambooth, _DREAMBOOTH, prefix="generator.dreambooth.")
        result["dreambooth"] = dreambooth
    elif "dreambooth" in given:
        raise _fail("dreambooth", "is for method DREAMBOOTH")
    return result


def complete_generator(
    generator: Spec, generation: Spec, dataset: Mapping[str, Any], *, classes: Sequence[str]
) -> None:
    """Complete, in place, what depends on the dataset; check both together.

    Args:
        generator: From `generator_with_defaults`.
        generation: The GenerationSpec, with its defaults.
        dataset: The Dataset record.
        classes: Those that the generator draws.
    """
    side = int(dataset["median_side"])
    if generator["kind"] == STABLE_DIFFUSION:
        _from_base(generator, side, classes)
        generator["keep_latents"] = generator["keep_latents"] or generation["strength"] > 0
        return
    _from_scratch(generator, side)
    for key in ("negative_prompt", "strength"):
        if generation[key]:
            raise bad(f"generation.{key}", "is for generator.kind STABLE_DIFFUSION")


def _from_base(generator: Spec, median_side: int, classes: Sequence[str]) -> None:
    if not generator.get("base"):
        raise _fail(
            "base",
            "name the Stable Diffusion model to start from: a directory in diffusers' layout, bases/{digest} of the "
            "store, or an id of the Hub",
        )
    # What a base can draw is a multiple that its networks say; the trainer checks it.
    size = generator.get("image_size", 0) or max(64, min(_USUAL_SIDE, median_side // 64 * 64))
    if size % 8 or not 8 <= size <= _LARGEST_SIDE:
        raise _fail("image_size", f"{size} is not a multiple of 8 within 8 and {_LARGEST_SIDE}")
    generator["image_size"] = size
    if generator["batch_size"] % generator["accumulation"]:
        raise _fail(
            "accumulation",
            f"{generator['accumulation']} does not divide generator.batch_size {generator['batch_size']} evenly",
        )
    if generator.get("compared_prompts") == generator["prompts"] and not generator.get("captions"):
        raise _fail("compared_prompts", f"{generator['prompts']!r} is what generator.prompts has; name another set")
    for name in generator.get("captions", {}):
        if name not in classes:
            raise _fail("captions", f"{name!r} is none of the classes that are drawn: {', '.join(classes)}")


def _from_scratch(generator: Spec, median_side: int) -> None:
    latent = bool(generator["autoencoder"])
    largest, step = (_LARGEST_LATENTS, 16) if latent else (_LARGEST_PIXELS, 8)
    fitting = max(step, min(128 if latent else _LARGEST_PIXELS, median_side // step * step))
    size = generator.get("image_size", 0) or fitting
    if not latent and size > _LARGEST_PIXELS:
        raise _fail(
            "image_size",
            f"{size} is above {_LARGEST_PIXELS}, where images are drawn in an autoencoder's latents; name the folder "
            "of its weights in generator.autoencoder",
        )
    if size % step or not step <= size <= largest:
        raise _fail("image_size", f"{size} is not a multiple of {step} within {step} and {largest}")
    if generator["patch_size"] not in (0, 1, 2, 4):
        raise _fail("patch_size", f"{generator['patch_size']} is none of 0 (what fits), 1, 2, 4")
    generator["image_size"] = size
    # Measured: above 32 pixels a place has more numbers than a small network has channels, and their noise stays in.
    generator.setdefault("prediction", "PREDICTION_V" if size <= _LARGEST_VELOCITY else "PREDICTION_IMAGE")


def _fail(key: str, problem: str) -> InvalidArgument:
    return bad(f"generator.{key}", problem)


def _check_kind(given: Mapping[str, Any], kind: str) -> None:
    own = {*_FROM_BASE, *_FROM_BASE_WORDS, "base", "preset", "captions", "compared_prompts", "lora", "dreambooth"}
    from_base, from_scratch = own - _FROM_SCRATCH.keys(), {"base_channels", "patch_size", "prediction", "autoencoder"}
    strange = from_scratch if kind == STABLE_DIFFUSION else from_base
    for key in given:
        if key in strange:
            other = CLASS_CONDITIONAL if kind == STABLE_DIFFUSION else STABLE_DIFFUSION
            raise _fail(key, f"is for kind {other.removeprefix('KIND_')}, not {kind.removeprefix('KIND_')}")
