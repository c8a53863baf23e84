"""KIND_STABLE_DIFFUSION: fine-tune a base on captioned images, by a low-rank adapter or all its weights; DreamBooth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from genaug.generation.artifacts import Artefact
from genaug.generation.diffusion.denoise import Cohort, step
from genaug.generation.generators.stable_diffusion.adapters import DOWN, UP
from genaug.generation.generators.stable_diffusion.base_models import Base, TextEncoder, bring_base
from genaug.generation.generators.stable_diffusion.captioned_data import CaptionedBatches, Shown, encode, of_classes
from genaug.generation.generators.stable_diffusion.generator import (
    KIND,
    LATENTS,
    Config,
    Pipeline,
    StableDiffusion,
    smallest_side,
)
from genaug.generation.sampling.receipts import Sampler, Wanted
from genaug.generation.training.diffusion_data import Noising, TrainingSet, question
from genaug.generation.training.finetune_context import Grids, Made, Place, course_of
from genaug.generation.training.loop import Noised, Task, Told, Training
from genaug.schema.captions import Captions, captions_of
from genaug.shared.digests import seed_of
from genaug.shared.errors import InvalidArgument

# CLIP's attention, where the text encoder has an adapter too.
_TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
# How grids, and the base's own images, are drawn.
_SAMPLER = Sampler(steps=20, guidance_scale=7.5)
_PRIOR = "prior"

Spec = Mapping[str, Any]


def train_stable_diffusion(
    spec: dict[str, Any], classes: list[str], training: TrainingSet, held_out: TrainingSet, place: Place
) -> Made:
    """Fine-tune the base of `spec` on training images, each shown with its class's caption.

    Batches hold each class equally often in expectation. The weights that are kept are an exponential moving average.

    Raises:
        InvalidArgument: the base cannot be had, a caption is missing, or the size is none of the base's.
        FailedPrecondition: the base is in another layout.
    """
    course = course_of(spec)
    place.processes.check(batch_size=spec["batch_size"], accumulation=course.accumulation)
    base = bring_base(place.store, spec["base"])
    # All have it before one of them reads it.
    place.processes.wait()
    multiple = smallest_side(base)
    if spec["image_size"] % multiple:
        raise InvalidArgument(
            f"generator.image_size: {spec['image_size']} is not a multiple of {multiple}, which {base.name} needs",
            reason="BAD_SIZE",
        )
    said = _captions(spec, classes)
    config = Config(
        kind=KIND,
        classes=tuple(classes),
        image_size=spec["image_size"],
        channels=spec["channels"],
        base=base.name,
        weights=spec["weights"],
        captions=dict(said.by_class),
        per_class=bool(spec.get("dreambooth", {}).get("per_class", False)),
    )
    if config.weights == "WEIGHTS_ADAPTER":
        config = replace(config, rank=spec["lora"]["rank"], alpha=float(spec["lora"]["alpha"]))
    latents = [encode(part, base, place, spec, mirror) for part, mirror in ((training, True), (held_out, False))]
    if spec["keep_latents"]:
        names = [classes[label] for label in training.labels]
        config = replace(config, sources=tuple(zip(names, training.ids, strict=True)))
    drawing = _Drawing(base, spec, place.device)
    bench = _Bench(spec, config, base, drawing, prior=_prior_latents(spec, base, place, drawing))
    tensors: dict[str, Tensor] = {}
    told: dict[str, Told] = {}
    grids: list[dict[str, Any]] = []
    for number, part in enumerate(config.parts):
        own = replace(place, report=_within(place, number, len(config.parts)))
        of = [classes[int(part)]] if config.per_class else classes
        drawn = Grids(own, training, classes, sampler=bench.sampler, part=part if config.per_class else "")
        learnt, told[part] = _train_part(
            bench, part, of, Shown(training, latents[0]), Shown(held_out, latents[1]), own, drawn
        )
        tensors |= learnt
        grids.append(drawn.facts(course, told[part]))
    if spec["keep_latents"]:
        tensors[LATENTS] = latents[0].means[:, 0].to(torch.float16).contiguous()
    facts = {
        "base": base.name,
        "captions": dict(said.by_class),
        "prompts": said.prompts,
        "losses": _mean([one.losses for one in told.values()]),
        "held_out_losses": _mean([one.held_out_losses for one in told.values() if one.held_out_losses]),
        "stopped_at": max(one.stopped_at for one in told.values()),
        **{key: [entry for found in grids for entry in found[key]] for key in ("sample_grids", "closenesses")},
    }
    return Made(config.json(), safetensors.torch.save(tensors), facts)


@dataclass(frozen=True)
class _Bench:
    """What the trainings of one generator share."""

    spec: Spec
    config: Config
    base: Base
    drawing: _Drawing
    prior: Tensor | None
    """Latents that the base drew of the prior caption, [n, channels, side, side]."""

    @property
    def sampler(self) -> Sampler:
        """How grids are drawn."""
        return replace(_SAMPLER, precision=self.spec["precision"])

    @property
    def captions(self) -> list[str]:
        """By number: of each class, none, and the prior's."""
        prior = self.spec["dreambooth"]["prior_caption"] if self.prior is not None else ""
        return [*(self.config.captions[name] for name in self.config.classes), "", prior]


def _captions(spec: Spec, classes: Sequence[str]) -> Captions:
    """The captions of the run file; of DreamBooth, with the rare word before each."""
    said = captions_of(spec["prompts"], classes, own=spec.get("captions", {}))
    if spec["method"] != "METHOD_DREAMBOOTH":
        return said
    dreambooth = spec["dreambooth"]
    alone = dreambooth["per_class"] or len(classes) == 1
    words = {name: f"{dreambooth['token']}{'' if alone else number}" for number, name in enumerate(classes)}
    return Captions(said.prompts, {name: f"{words[name]} {said.by_class[name]}" for name in classes})


def _prior_latents(spec: Spec, base: Base, place: Place, drawing: _Drawing) -> Tensor | None:
    """Latents of the base's own images of the prior caption (prior preservation): drawn once, by the first process."""
    dreambooth = spec.get("dreambooth", {})
    count = dreambooth.get("prior_images", 0)
    if not count:
        return None
    # Of this base: a folder's content may have changed since an attempt that was killed.
    key = f"{place.name}/prior-{base.name[-8:]}.safetensors"
    place.scratch.append(key)
    if place.processes.first and not place.store.exists(key):
        config = Config(
            KIND, (_PRIOR,), spec["image_size"], spec["channels"], base.name, "WEIGHTS_ADAPTER",
            {_PRIOR: dreambooth["prior_caption"]}, rank=1, alpha=1.0,
        )  # fmt: skip
        generator = drawing.generator(f"{place.name}/{_PRIOR}", config, {})
        sampler = replace(_SAMPLER, precision=spec["precision"])
        wanted = [Wanted(_PRIOR, spec["seed"], index) for index in range(count)]
        found = []
        with torch.inference_mode():
            for start in range(0, count, generator.bucket):
                cohort = Cohort(generator, wanted[start : start + generator.bucket], sampler)
                while not cohort.finished:
                    step(generator, [cohort], bucket=generator.bucket)
                    note = f"drawing prior images, {start} of {count}"
                    place.report(0, spec["train_steps"], "updates", note)
                found.append(cohort.samples.cpu())
        place.store.put_new(key, safetensors.torch.save({"latents": torch.cat(found).clone()}))
    place.processes.wait()
    return safetensors.torch.load(place.store.get(key))["latents"]


class _Drawing:
    """Draws as an artefact would, before there is one. The base's networks are loaded once, when they are needed."""

    def __init__(self, base: Base, spec: Spec, device: torch.device) -> None:
        self._base = base
        self._dtype = torch.bfloat16 if spec["precision"] == "PRECISION_BFLOAT16" else torch.float32
        self._device = device

    @cached_property
    def _pipeline(self) -> Pipeline:
        return Pipeline(self._base, dtype=self._dtype, device=self._device)

    def generator(self, name: str, config: Config, tensors: dict[str, Tensor]) -> StableDiffusion:
        """The generator of some weights; another name for other weights."""
        artefact = Artefact(name, {}, replace(config, sources=()).json(), safetensors.torch.save(tensors))
        lend = lambda base, dtype: self._pipeline  # noqa: E731
        return StableDiffusion(artefact, pipelines=lend, base=self._base, device=self._device)


def _train_part(
    bench: _Bench, part: str, of: Sequence[str], shown: Shown, unseen: Shown, place: Place, grids: Grids
) -> tuple[dict[str, Tensor], Told]:
    """Train the weights that draw the classes `of`; return them, named as in the artefact."""
    spec, classes = bench.spec, bench.config.classes
    seed = seed_of("finetune", spec["seed"])
    network = _Captioned(bench, place.device, seed=seed)
    noising = Noising(bench.base.schedule, min_snr=spec["min_snr"])
    batches = CaptionedBatches(
        spec, noising, of_classes(shown, of, classes), classes=len(classes), prior=bench.prior, seed=seed
    )
    held = of_classes(unseen, of, classes)
    task = Task(
        network,
        network,
        batches.draw,
        batches.source,
        question(noising, held.latents, held.images.labels, seed=seed),
    )
    run = Training(task, course_of(spec), place.processes)

    def looking(update: int) -> bool:
        tensors = {f"{part}/{key}": value for key, value in network.learnt().items()}
        generator = bench.drawing.generator(f"{place.name}/{part}/{update}", bench.config, tensors)
        return grids.draw(generator, update, of=of) > float(spec["memorised"])

    alone = f"-{part}" if bench.config.per_class else ""
    checkpoint = place.checkpoint(f"{bench.base.name[-8:]}{alone}")
    run.run(place.report, checkpoint=checkpoint, looking=looking)
    if alone and place.processes.first:
        # Killed while another class learns, this one is not learnt again.
        run.save(checkpoint)
    return {f"{part}/{key}": value for key, value in network.learnt().items()}, run.told


class _Captioned(nn.Module):
    """A base's network, told captions by number; what learns of it requires gradients."""

    def __init__(self, bench: _Bench, device: torch.device, *, seed: int) -> None:
        super().__init__()
        spec = bench.spec
        self._whole = bench.config.weights == "WEIGHTS_ALL"
        low = spec["precision"] == "PRECISION_BFLOAT16"
        dtype = torch.bfloat16 if low and not self._whole else torch.float32
        self._saved = torch.bfloat16 if low and self._whole else torch.float32
        self.unet = bench.base.unet(dtype).to(device)
        text = bench.base.text_encoder(dtype).to(device)
        # Only the adapter's first weights come from torch's global generator; leave it as it was found.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._learn(self.unet, spec.get("lora", {}), spec.get("lora", {}).get("targets", []))
            if spec["text_encoder"]:
                self._learn(text.network, spec.get("lora", {}), _TEXT_TARGETS)
        if spec["gradient_checkpointing"]:
            cast(Any, self.unet).enable_gradient_checkpointing()
        self.text: TextEncoder | None = None
        self._embeddings = self._tokens = torch.empty(0)
        if spec["text_encoder"]:
            self.text, self._tokens = text, text.tokens(bench.captions).to(device)
        else:
            self._embeddings = text.embed(bench.captions)

    def forward(self, batch: Noised) -> Tensor:
        """What the network predicts."""
        if self.text is None:
            conditions = self._embeddings[batch.labels]
        else:
            numbers, places = batch.labels.unique(return_inverse=True)
            conditions = self.text(self._tokens[numbers])[places]
        found = cast(Any, self.unet)(batch.noisy.to(self._dtype), batch.times, conditions.to(self._dtype))
        return cast(Tensor, found.sample)

    def learnt(self) -> dict[str, Tensor]:
        """What has learnt, named "unet.…" and "text_encoder.…" as in an artefact."""
        networks = {"unet": self.unet, **({"text_encoder": self.text.network} if self.text else {})}
        found: dict[str, Tensor] = {}
        for name, network in networks.items():
            if self._whole:
                named = network.state_dict().items()
                found |= {f"{name}.{key}": value.to(self._saved).cpu().contiguous() for key, value in named}
                continue
            for key, value in network.named_parameters():
                if value.requires_grad:
                    plain = key.replace(".lora_A.default.weight", DOWN).replace(".lora_B.default.weight", UP)
                    found[f"{name}.{plain}"] = value.detach().float().cpu().contiguous()
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return cast(torch.dtype, cast(Any, self.unet).dtype)

    def _learn(self, network: nn.Module, lora: Spec, targets: Sequence[str]) -> None:
        if self._whole:
            network.requires_grad_(True)
            return
        from peft import LoraConfig, inject_adapter_in_model

        adapter = LoraConfig(r=lora["rank"], lora_alpha=lora["alpha"], target_modules=list(targets))
        try:
            inject_adapter_in_model(adapter, network)
        except ValueError:
            raise InvalidArgument(
                f"generator.lora.targets: no layer's name ends in any of {', '.join(targets)}", reason="BAD_TARGETS"
            ) from None
        for key, value in network.named_parameters():
            learns = ".lora_" in key
            value.requires_grad_(learns)
            if learns:
                value.data = value.data.float()


def _within(place: Place, number: int, count: int) -> Any:
    """A report of one of several trainings, as part of all."""

    def report(done: int, total: int, unit: str, note: str = "", /) -> None:
        place.report(number * total + done, count * total, unit, note)

    return report


def _mean(lists: Sequence[Sequence[float]]) -> list[float]:
    """Element by element, as far as all go: a training may have stopped early."""
    return [round(float(np.mean(values)), 6) for values in zip(*lists, strict=False)]
