"""Stable Diffusion as we fine-tune and draw with it, beside the simplest way: a base of its shape with random weights.

    export OMP_WAIT_POLICY=PASSIVE    # as services have it: threads that spin while they wait keep others waiting
    PYTHONPATH=. python benchmarks/diffusion.py
    PYTHONPATH=. python benchmarks/diffusion.py --only clients receipts

The base is Stable Diffusion 1's in shape, with a fifth of the channels: 4 levels, 3 with attention to the caption,
latents of 16×16 for 128 pixels; --full takes Stable Diffusion 1.5's own sizes at 512 pixels, for an accelerator. What
is compared draws with guidance, so that an image's step is two rows of the network. Prints what was measured and, last,
one JSON line a ratio: {"name", "ratio", "goal", "better"}.

    draw.naive         images a second of ours, 25 steps of DPM-Solver++, over the notebook's loop: diffusers' pipeline
                       with one image a call, 32 bits, 50 steps, captions encoded in each call
    draw.pipeline      images a second of ours in bfloat16 over diffusers' own pipeline in the same format and memory
                       layout, with the same steps and as many images a call as ours draws at once
    draw.pipeline32    the same in 32 bits
    draw.turbo         images a second of profile TURBO over FULL; it changes images, and is never taken unasked
    service            seconds of the same images through the service, encoded and over the wire, over the bare loop of
                       network and scheduler: what serving costs
    clients            images a second of 64 clients of the service, each on its own connection, who ask for 1 to 4
                       images, over one client who asks for all
    clients.fair       longest wait of a client over the median
    cancel             steps of the network that begin after a client has left whose request was alone
    receipts           share of 100 images that are drawn again to the same bits from their receipts
    receipts.bucket    largest difference of a pixel, grey levels of 255, where they are drawn again in other buckets
    receipts.elsewhere the same where they are drawn by a process without AVX: another machine's arithmetic
    lora.cached        seconds of an update that encodes images and captions, over one that finds them in memory
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch
from tests.shapes import VERSION, put_version, real_rows
from tests.tiny_base import write_tokenizer

from genaug.generation.diffusion.denoise import Rows
from genaug.generation.finetune import finetune
from genaug.generation.generators.stable_diffusion.base_models import import_base
from genaug.generation.generators.stable_diffusion.generator import Pipeline
from genaug.generation.sampling import sampling_server
from genaug.generation.sampling.receipts import DrawnImage, ImageRequest
from genaug.generation.sampling.sampling_server import SamplingServer
from genaug.schema.common import Precision
from genaug.schema.generators import GeneratorSpec
from genaug.schema.jobs import FinetuneInputs
from genaug.schema.model import Model, parse
from genaug.schema.sampling import Profile, Sampler
from genaug.serve import make_server
from genaug.shared.settings import GenerationSettings, ServerSettings, Settings, StoreSettings
from genaug.shared.store import Store
from genaug.v1 import common_pb2, generation_service_pb2, generation_service_pb2_grpc

CLASSES = ("lies", "stands")
STEPS = 25


@dataclass(frozen=True)
class Shape:
    """Sizes of a base."""

    channels: tuple[int, ...]
    width: int
    """Of captions."""
    layers: int
    """Of the text encoder."""
    vae: tuple[int, ...]
    side: int
    """Pixels."""
    heads: int


REDUCED = Shape((64, 128, 256, 256), 256, 4, (16, 32, 32, 32), 128, 8)
FULL = Shape((320, 640, 1280, 1280), 768, 12, (128, 256, 512, 512), 512, 8)


def write_base(folder: Path, shape: Shape) -> Path:
    """A base of Stable Diffusion 1's shape in diffusers' layout."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokens = write_tokenizer(folder / "tokenizer")
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.width // 64,
            bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
            pad_token_id=tokens - 1,
        )
    ).save_pretrained(folder / "text_encoder")
    UNet2DConditionModel(
        sample_size=shape.side // 8,
        block_out_channels=shape.channels,
        cross_attention_dim=shape.width,
        attention_head_dim=shape.heads,
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=shape.vae,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16,
    ).save_pretrained(folder / "vae")
    PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
    ).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline"} | {
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


class Bench:
    """A base, a generator of it in a store, and their measurements."""

    def __init__(self, folder: Path, shape: Shape, device: str) -> None:
        self.shape, self.device = shape, torch.device(device)
        self.base = write_base(folder / "base", shape)
        self.settings = StoreSettings(url=f"file://{folder / 'store'}")
        self.store = Store.open(self.settings, "assembly")
        put_version(self.store, real_rows(self.store, dict.fromkeys(CLASSES, 6)))
        settings = {"base": str(self.base), "prompts": "generic", "train_steps": 1}
        settings |= {"sample_grids": 0, "held_out": 0.0, "batch_size": 2}
        spec = parse(GeneratorSpec, {"stable_diffusion": settings}).completed(shape.side)
        inputs = FinetuneInputs(dataset_version=VERSION, classes=CLASSES, generator=spec, channels=3)
        self.name = finetune(inputs, self.store.as_role("finetune"), lambda *_: None, device=device)
        self.lines: list[dict[str, Any]] = []

    def tell(self, name: str, ratio: float, goal: float, better: str = "higher", **said: float) -> None:
        """Note a ratio."""
        facts = ", ".join(f"{key} {value:.4g}" for key, value in said.items())
        print(f"{name:18} {ratio:8.3f}   goal {goal:g}, {better} is better   {facts}", flush=True)
        self.lines.append({"name": name, "ratio": round(ratio, 4), "goal": goal, "better": better})

    def sampler(self, **changes: Any) -> Sampler:
        """Sampler settings of the benchmarks."""
        return Sampler(**{"steps": STEPS, "guidance_scale": 7.5, "image_size": self.shape.side, **changes})

    @contextmanager
    def serving(self) -> Iterator[SamplingServer]:
        """A drawing server."""
        server = SamplingServer(self.store.as_role("generation"), GenerationSettings(), device=str(self.device))
        try:
            yield server
        finally:
            server.close()

    def draw(self, server: SamplingServer, count: int, *, client: str = "one", first: int = 0, **sampler: Any) -> float:
        """Seconds of drawing `count` images."""
        generator = server.load(self.name)
        requests = [ImageRequest(CLASSES[index % 2], 0, first + index) for index in range(count)]
        start = time.perf_counter()
        events = server.draw(
            generator, requests, sampler=self.sampler(**sampler), client=client, is_active=lambda: True
        )
        assert sum(isinstance(event, DrawnImage) for event in events) == count
        return time.perf_counter() - start

    @contextmanager
    def over_the_wire(self) -> Iterator[Callable[..., int]]:
        """The service on a socket: ask(count, first, steps=…) draws images over a connection of its own."""
        address = f"unix:{self.base.parent / 'socket'}"
        settings = Settings(
            home=self.base.parent, store=self.settings, server=ServerSettings(address=address), device=str(self.device)
        )
        running = make_server(settings, ["generation"])
        running.start()

        def ask(count: int, first: int, *, steps: int = STEPS) -> int:
            request = generation_service_pb2.GenerateImagesRequest(
                generator=self.name,
                counts=[common_pb2.ClassCount(class_name=CLASSES[0], count=count)],
                first_index=first,
                output=generation_service_pb2.GenerateImagesRequest.OUTPUT_INLINE,
            )
            request.sampler.steps, request.sampler.guidance_scale = steps, 7.5
            with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
                events = stub.GenerateImages(request, wait_for_ready=True)
                return sum(event.WhichOneof("event") in ("image", "rejected") for event in events)

        try:
            yield ask
        finally:
            running.stop()

    def pipeline(self, dtype: torch.dtype, *, fast: bool) -> Any:
        """diffusers' own; `fast` with our solver and memory layout."""
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
        from diffusers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        pipeline = StableDiffusionPipeline.from_pretrained(self.base, torch_dtype=dtype, safety_checker=None)
        pipeline.set_progress_bar_config(disable=True)
        if fast:
            pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
            pipeline.unet.to(memory_format=torch.channels_last)
        return pipeline.to(self.device)


def drawing(bench: Bench) -> None:
    """draw.*"""
    side = bench.shape.side
    with bench.serving() as server:
        bucket = server.load(bench.name).bucket
        bench.draw(server, 1, steps=2)
        ours = bucket / bench.draw(server, bucket)
        naive = bench.pipeline(torch.float32, fast=False)
        naive("a photograph", num_inference_steps=1, height=side, width=side)
        start = time.perf_counter()
        naive("a photograph of class lies", num_inference_steps=50, height=side, width=side)
        loop = 1 / (time.perf_counter() - start)
        bench.tell("draw.naive", ours / loop, 3.0, ours=ours, naive=loop)
        turbo = bucket / bench.draw(server, bucket, profile=Profile.TURBO)
        bench.tell("draw.turbo", turbo / ours, 1.25, turbo=turbo)
        for name, precision, dtype in (
            ("draw.pipeline32", Precision.FLOAT32, torch.float32),
            ("draw.pipeline", Precision.BFLOAT16, torch.bfloat16),
        ):
            pipeline = bench.pipeline(dtype, fast=True)
            # A CPU without bfloat16 takes many times as long in it: a few steps tell.
            steps = STEPS if dtype == torch.float32 or bench.device.type == "cuda" else 3
            prompts = ["a photograph of class lies"] * bucket
            asked: dict[str, Any] = {"height": side, "width": side, "guidance_scale": 7.5}
            pipeline(prompts[:1], num_inference_steps=1, **asked)
            bench.draw(server, 1, steps=1, precision=precision)
            start = time.perf_counter()
            pipeline(prompts, num_inference_steps=steps, **asked)
            theirs = bucket / (time.perf_counter() - start)
            mine = bucket / bench.draw(server, bucket, steps=steps, precision=precision)
            bench.tell(name, mine / theirs, 1.0, ours=mine, theirs=theirs)


def service(bench: Bench) -> None:
    """service: over gRPC and encoded, beside the bare loop of network and scheduler; in turn, the quickest of each."""
    from diffusers import DPMSolverMultistepScheduler

    steps = 8
    with bench.serving() as server, bench.over_the_wire() as ask:
        generator = server.load(bench.name)
        bucket, sampler = generator.bucket, bench.sampler()
        requests = [ImageRequest(CLASSES[0], 0, index) for index in range(bucket)]

        def loop() -> None:
            started = generator.begin(requests, sampler)
            scheduler = DPMSolverMultistepScheduler.from_config(generator.schedule)
            scheduler.set_timesteps(steps)
            sample = started.noise
            for moment in scheduler.timesteps:
                times = moment.expand(bucket).to(bench.device)
                guided = generator.predict(Rows(sample, times, started.conditions), sampler)
                unguided = generator.predict(Rows(sample, times, started.without), sampler)
                sample = scheduler.step(unguided + 7.5 * (guided - unguided), moment, sample).prev_sample
            generator.pixels(sample, sampler)

        bare, served = [], []
        with torch.inference_mode():
            loop()
            ask(bucket, 0, steps=1)
            for _ in range(4):
                start = time.perf_counter()
                loop()
                bare.append(time.perf_counter() - start)
                start = time.perf_counter()
                ask(bucket, 0, steps=steps)
                served.append(time.perf_counter() - start)
    bench.tell("service", min(served) / min(bare), 1.03, "lower", served=min(served), bare=min(bare))


def clients(bench: Bench) -> None:
    """clients, clients.fair, cancel."""
    counts = [1 + index % 4 for index in range(64)]
    total, steps = sum(counts), 4
    with bench.over_the_wire() as ask:
        ask(1, 0, steps=1)
        start = time.perf_counter()
        assert ask(total, 0, steps=steps) == total
        alone = total / (time.perf_counter() - start)
        firsts = np.cumsum([0, *counts[:-1]])
        start = time.perf_counter()
        waits: list[float] = []

        def one_client(number: int) -> None:
            assert ask(counts[number], int(firsts[number]), steps=steps) == counts[number]
            waits.append(time.perf_counter() - start)

        with ThreadPoolExecutor(64) as pool:
            list(pool.map(one_client, range(64)))
        together = total / (time.perf_counter() - start)
    bench.tell("clients", together / alone, 0.9, together=together, alone=alone)
    bench.tell("clients.fair", max(waits) / statistics.median(waits), 2.5, "lower", longest=max(waits))
    bench.tell("cancel", float(steps_after_leaving(bench)), 1.0, "lower")


def steps_after_leaving(bench: Bench) -> int:
    """Steps that the network still takes once a client has left."""
    taken = 0
    original: Callable[..., None] = sampling_server.step

    def counted(*arguments: Any, **named: Any) -> None:
        nonlocal taken
        original(*arguments, **named)
        taken += 1

    sampling_server.step = counted
    try:
        with bench.serving() as server:
            generator = server.load(bench.name)
            here = threading.Event()
            here.set()
            requests = [ImageRequest(CLASSES[0], 0, index) for index in range(generator.bucket)]
            events = server.draw(generator, requests, sampler=bench.sampler(), client="one", is_active=here.is_set)
            for _ in events:
                if taken >= 2:
                    break
            events.close()
            left = taken
            time.sleep(5.0 if bench.device.type == "cuda" else 20.0)
            return taken - left
    finally:
        sampling_server.step = original


def receipts(bench: Bench) -> None:
    """receipts, receipts.bucket."""
    count, steps = 100, 4
    with bench.serving() as server:
        generator, sampler = server.load(bench.name), bench.sampler(steps=steps)
        requests = [ImageRequest(CLASSES[index % 2], 1, index) for index in range(count)]

        def drawn(some: list[ImageRequest], bucket: int = 0) -> list[DrawnImage]:
            events = server.draw(generator, some, sampler=sampler, client="one", is_active=lambda: True, bucket=bucket)
            return [event for event in events if isinstance(event, DrawnImage)]

        first = drawn(requests)
        # One by one, by several callers at once: company that they did not have the first time.
        with ThreadPoolExecutor(16) as pool:
            again = list(pool.map(lambda request: drawn([request])[0], requests))
        same = sum(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
        bench.tell("receipts", same / count, 1.0)
        largest = 0
        for bucket in (1, 2, generator.bucket * 2):
            for a, b in zip(first, drawn(requests[:16], bucket), strict=False):
                largest = max(largest, int(np.abs(a.pixels.astype(int) - b.pixels.astype(int)).max()))
    bench.tell("receipts.bucket", float(largest), 2.0, "lower")
    if bench.device.type == "cpu":
        other = elsewhere(bench, sampler, requests[:16])
        differences = np.abs(np.stack([image.pixels for image in first[:16]]).astype(int) - other)
        bench.tell("receipts.elsewhere", float(differences.max()), 2.0, "lower", differing=(differences > 0).mean())


class Redraw(Model):
    """Request to the process without AVX."""

    store: str
    generator: str
    sampler: Sampler
    count: int


def elsewhere(bench: Bench, sampler: Sampler, requests: list[ImageRequest]) -> np.ndarray:
    """The pixels that a process without AVX draws: another machine's arithmetic on this one."""
    file = bench.base.parent / "redraw.json"
    redraw = Redraw(store=bench.settings.url, generator=bench.name, sampler=sampler, count=len(requests))
    file.write_text(redraw.model_dump_json())
    plain = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    subprocess.run([sys.executable, __file__, "--again", str(file)], env=os.environ | plain, check=True)
    return np.load(file.with_suffix(".npy")).astype(int)


def draw_again(file: Path) -> None:
    """Draw the images of a `Redraw`, in the process without AVX."""
    redraw = Redraw.model_validate_json(file.read_text())
    store = Store.open(StoreSettings(url=redraw.store), "generation")
    server = SamplingServer(store, GenerationSettings(), device="cpu")
    requests = [ImageRequest(CLASSES[index % 2], 1, index) for index in range(redraw.count)]
    generator = server.load(redraw.generator)
    events = server.draw(generator, requests, sampler=redraw.sampler, client="", is_active=lambda: True)
    np.save(file.with_suffix(".npy"), np.stack([event.pixels for event in events if isinstance(event, DrawnImage)]))
    server.close()


def lora(bench: Bench) -> None:
    """lora.cached"""
    from peft import LoraConfig, inject_adapter_in_model

    base = import_base(bench.store.as_role("finetune"), str(bench.base))
    network = base.unet().to(bench.device)
    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), network)
    network.train()
    autoencoder, text = base.autoencoder().to(bench.device), base.text_encoder().to(bench.device)
    optimizer = torch.optim.AdamW(
        [weight for weight in network.parameters() if weight.requires_grad], lr=1e-4, fused=True
    )
    images = torch.rand(4, 3, bench.shape.side, bench.shape.side, device=bench.device) * 2 - 1
    captions = ["a photograph of class lies"] * 4

    def encoded() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return autoencoder.encode(images)[0], text(text.tokens(captions).to(bench.device))

    def update(latents: torch.Tensor, conditions: torch.Tensor) -> None:
        times = torch.randint(1000, (4,), device=bench.device)
        optimizer.zero_grad(set_to_none=True)
        (network(latents, times, conditions).sample - latents).square().mean().backward()
        optimizer.step()

    def seconds(work: Callable[[], None]) -> float:
        work()
        durations = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            if bench.device.type == "cuda":
                torch.cuda.synchronize()
            durations.append(time.perf_counter() - start)
        return statistics.median(durations)

    cached_inputs = encoded()
    each, cached = seconds(lambda: update(*encoded())), seconds(lambda: update(*cached_inputs))
    bench.tell("lora.cached", each / cached, 1.5, each=each, cached=cached)


PARTS = {"drawing": drawing, "service": service, "clients": clients, "receipts": receipts, "lora": lora}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--full", action="store_true", help="Stable Diffusion 1.5's own sizes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--again", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.again:
        draw_again(arguments.again)
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), FULL if arguments.full else REDUCED, arguments.device)
        size = sum(
            weight.numel()
            for weight in Pipeline(
                import_base(bench.store.as_role("finetune"), str(bench.base)), dtype=torch.float32, device=bench.device
            ).unet.parameters()
        )
        print(f"{bench.device}, {torch.get_num_threads()} threads, network of {size / 1e6:.1f} M parameters")
        for name in arguments.only:
            PARTS[name](bench)
        for line in bench.lines:
            print(json.dumps(line))


if __name__ == "__main__":
    main()
