"""The servicer as its server calls it; the wire itself is tested in the integration tests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.generation.conftest import IMAGES, World, put_adapter

from genaug.generation.generators.class_conditional.generator import ClassConditional
from genaug.generation.service import GenerationServicer
from genaug.shared.errors import Cancelled, GenaugError, InvalidArgument, NotFound
from genaug.shared.manifest import read_rows
from genaug.shared.protojson import from_dict
from genaug.shared.settings import Settings
from genaug.v1 import common_pb2, generator_pb2, sampler_pb2
from genaug.v1 import generation_service_pb2 as wire
from genaug.vision.images.pixels import decode, pixel_sha256
from genaug.vision.images.provenance_metadata import receipt_of

KINDS = ["class_conditional", "transforms"]
STORE, INLINE = wire.GenerateImagesRequest.OUTPUT_STORE, wire.GenerateImagesRequest.OUTPUT_INLINE
FAST = sampler_pb2.SamplerSettings(steps=2, guidance_scale=1.5)


class Context:
    """The context of a call that goes on while `is_active` returns True."""

    def __init__(self, is_active: Callable[[], bool] = lambda: True, peer: str = "ipv4:1") -> None:
        self.is_active = is_active
        self._peer = peer

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> tuple[()]:
        return ()


@pytest.fixture
def service(world: World) -> Iterator[GenerationServicer]:
    servicer = GenerationServicer(world.stores("generation"), Settings(device="cpu"))
    yield servicer
    servicer.close()


def request(generator: str, counts: Mapping[str, int], **fields: Any) -> wire.GenerateImagesRequest:
    entries = [common_pb2.ClassCount(class_name=name, count=count) for name, count in counts.items()]
    return wire.GenerateImagesRequest(generator=generator, counts=entries, **{"sampler": FAST, **fields})


def generate(
    service: GenerationServicer, call: wire.GenerateImagesRequest, context: Any = None
) -> list[wire.GenerateImagesResponse]:
    return list(service.GenerateImages(call, context or Context()))


def images(events: list[wire.GenerateImagesResponse]) -> list[wire.GeneratedImage]:
    return [event.image for event in events if event.HasField("image")]


@pytest.mark.parametrize(("kind", "source"), list(zip(KINDS, ["synthetic", "transformed"], strict=True)))
def test_a_batch_is_stored_and_found_again(world: World, service: GenerationServicer, kind: str, source: str) -> None:
    call = request(world.finetune(kind=kind), {"stands": 3, "lies": 2}, seed=4, output=STORE)
    events = generate(service, call)
    assert [event.WhichOneof("event") for event in events][-2:] == ["progress", "batch"]
    assert (events[-2].progress.done, events[-2].progress.total, events[-2].progress.unit) == (5, 5, "images")
    batch = events[-1].batch
    assert [(entry.class_name, entry.count) for entry in batch.counts] == [("lies", 2), ("stands", 3)]
    assert batch.drawn == 5
    rows = read_rows(world.stores("assembly"), batch.manifest)
    assert {row.source for row in rows} == {source}
    assert [bool(row.parent_ids) for row in rows] == [kind == "transforms"] * 5
    [again] = generate(service, call)
    assert (again.batch.name, again.batch.drawn) == (batch.name, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_inline_images_equal_the_stored_ones_and_are_not_stored(
    world: World, service: GenerationServicer, kind: str
) -> None:
    name = world.finetune(kind=kind)
    inline = images(generate(service, request(name, {"lies": 3}, output=INLINE)))
    assert not list(world.stores("assembly").list("draws/"))
    batch = generate(service, request(name, {"lies": 3}))[-1].batch
    rows = read_rows(world.stores("assembly"), batch.manifest)
    assert [image.receipt.pixel_sha256 for image in inline] == [row.pixel_sha256 for row in rows]
    assert [image.receipt.draw for image in inline] == [row.image_id for row in rows]
    assert [pixel_sha256(decode(image.data)) for image in inline] == [row.pixel_sha256 for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_regenerated_from_the_receipt_in_its_manifest(
    world: World, service: GenerationServicer, kind: str
) -> None:
    batch = generate(service, request(world.finetune(kind=kind), {"lies": 3, "stands": 2}, seed=9))[-1].batch
    for row in read_rows(world.stores("assembly"), batch.manifest)[1:4:2]:
        receipt = from_dict(generator_pb2.Receipt, json.loads(row.receipt))
        answer = service.RegenerateImage(wire.RegenerateImageRequest(receipt=receipt), Context())
        assert answer.same_pixels
        assert answer.image.receipt == receipt
        assert pixel_sha256(decode(answer.image.data)) == row.pixel_sha256
        receipt.pixel_sha256 = "0" * 64
        assert not service.RegenerateImage(wire.RegenerateImageRequest(receipt=receipt), Context()).same_pixels


def test_an_altered_receipt_is_refused(world: World, service: GenerationServicer) -> None:
    [image] = images(generate(service, request(world.finetune(), {"lies": 1}, output=INLINE)))
    image.receipt.index = 5
    with pytest.raises(InvalidArgument, match=r"receipt\.draw"):
        service.RegenerateImage(wire.RegenerateImageRequest(receipt=image.receipt), Context())


def test_unset_sampler_settings_take_the_defaults_of_the_kind(world: World, service: GenerationServicer) -> None:
    call = request(world.finetune(), {"lies": 1}, output=INLINE, sampler=sampler_pb2.SamplerSettings())
    [image] = images(generate(service, call))
    expected = sampler_pb2.SamplerSettings(
        steps=20, guidance_scale=1.5, scheduler="DPMSolverMultistepScheduler", image_size=8, profile="PROFILE_FULL",
        precision="PRECISION_FLOAT32",
    )  # fmt: skip
    assert image.receipt.sampler == expected


def test_transforms_have_no_sampler_in_their_name(world: World, service: GenerationServicer) -> None:
    name = world.finetune(kind="transforms")
    batches = {
        generate(service, request(name, {"lies": 1}, sampler=sampler))[-1].batch.name for sampler in (FAST, None)
    }
    assert len(batches) == 1


def test_transforms_cover_their_originals_evenly(world: World, service: GenerationServicer) -> None:
    name = world.finetune(kind="transforms")
    drawn = images(generate(service, request(name, {"lies": 2 * IMAGES}, output=INLINE)))
    parents = [image.receipt.parent_ids[0] for image in drawn]
    assert {parents.count(parent) for parent in parents} == {2}
    assert len({image.data for image in drawn}) == 2 * IMAGES


def test_cancelling_keeps_what_was_finished(world: World, service: GenerationServicer) -> None:
    name = world.finetune()
    # The client is gone as soon as the first images are stored; no later bucket is started.
    stored = lambda: len(list(world.stores("assembly").list("draws/")))  # noqa: E731
    with pytest.raises(Cancelled):
        generate(service, request(name, {"lies": 400}), Context(is_active=lambda: not stored()))
    before = stored()
    assert 32 <= before < 400
    batch = generate(service, request(name, {"lies": 400}))[-1].batch
    assert batch.drawn + sum(entry.count for entry in batch.rejected) == 400 - before


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"generator": "generators/" + "0" * 32}, NotFound, "genaug generator list"),
        ({"generator": "models/x"}, InvalidArgument, "generators/{digest}"),
        ({"counts": {"bends": 1}}, InvalidArgument, "'bends': .* draws lies, stands"),
        ({"counts": {}}, InvalidArgument, "0 images in all"),
        ({"counts": {"lies": 0}}, InvalidArgument, "at least 1"),
        ({"counts": {"lies": -3}}, InvalidArgument, "at least 1"),
        ({"counts": {"lies": 99_999, "stands": 2}}, InvalidArgument, "1 to 100000"),
        ({"first_index": -1}, InvalidArgument, "first_index"),
        ({"first_index": 2**63 - 1}, InvalidArgument, "first_index"),
        ({"sampler": sampler_pb2.SamplerSettings(steps=1001)}, InvalidArgument, r"sampler\.steps"),
        ({"sampler": sampler_pb2.SamplerSettings(steps=-1)}, InvalidArgument, r"sampler\.steps"),
        ({"sampler": sampler_pb2.SamplerSettings(guidance_scale=0.5)}, InvalidArgument, "guidance_scale"),
        ({"sampler": sampler_pb2.SamplerSettings(guidance_scale=float("nan"))}, InvalidArgument, "guidance_scale"),
        ({"output": 9}, InvalidArgument, "output"),
    ],
)
def test_an_invalid_request_is_refused_before_any_work(
    world: World, service: GenerationServicer, fields: dict[str, Any], error: type[GenaugError], words: str
) -> None:
    valid = {"generator": world.finetune(train_steps=1), "counts": {"lies": 1}}
    with pytest.raises(error, match=words):
        service.GenerateImages(request(**{**valid, **fields}), Context())  # type: ignore[arg-type]


def test_a_class_that_is_requested_twice_is_refused(world: World, service: GenerationServicer) -> None:
    call = request(world.finetune(train_steps=1), {"lies": 1})
    call.counts.add(class_name="lies", count=1)
    with pytest.raises(InvalidArgument, match="twice"):
        service.GenerateImages(call, Context())


def test_generators_are_listed_by_pages_and_unfinished_ones_left_out(world: World, service: GenerationServicer) -> None:
    names = sorted(world.finetune(kind="transforms", seed=seed) for seed in range(3))
    world.stores("finetune").put_new("generators/" + "0" * 32 + "/model.safetensors", b"")
    first = service.ListGenerators(wire.ListGeneratorsRequest(page_size=2), Context())
    second = service.ListGenerators(wire.ListGeneratorsRequest(page_token=first.next_page_token), Context())
    assert [generator.name for generator in [*first.generators, *second.generators]] == names
    assert second.next_page_token == ""


def test_a_generator_is_returned_by_name(world: World, service: GenerationServicer) -> None:
    name = world.finetune()
    generator = service.GetGenerator(wire.GetGeneratorRequest(name=name), Context())
    assert (generator.name, list(generator.classes)) == (name, ["lies", "stands"])
    assert generator.spec.class_conditional.train_steps == 3
    assert generator.provenance.recipe == "finetune/3"


def test_the_service_starts_without_torch() -> None:
    code = "import sys, genaug.generation.service; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def same(receipt: generator_pb2.Receipt, service: GenerationServicer) -> bool:
    return service.RegenerateImage(wire.RegenerateImageRequest(receipt=receipt), Context()).same_pixels


@pytest.mark.parametrize(
    "sampler",
    [
        FAST,
        sampler_pb2.SamplerSettings(steps=3, scheduler="EulerAncestralDiscreteScheduler", profile="PROFILE_TURBO"),
        sampler_pb2.SamplerSettings(steps=4, strength=0.5, negative_prompt="a fundus"),
    ],
)
def test_a_stable_diffusion_image_is_regenerated_from_the_receipt_that_it_carries(
    world: World, service: GenerationServicer, base: Path, sampler: sampler_pb2.SamplerSettings
) -> None:
    name = put_adapter(world.stores, base, latents=True)
    drawn = images(generate(service, request(name, {"lies": 3, "stands": 2}, output=INLINE, sampler=sampler)))
    assert len(drawn) == 5
    for image in drawn[1:4:2]:
        receipt = from_dict(generator_pb2.Receipt, receipt_of(image.data))
        assert receipt == image.receipt
        assert receipt.prompt == f"a photograph of class {receipt.class_name}"
        assert receipt.base.startswith("bases/")
        assert same(receipt, service)
        receipt.pixel_sha256 = "0" * 64
        assert not same(receipt, service)


def test_images_of_a_base_are_stored_with_their_captions(world: World, service: GenerationServicer, base: Path) -> None:
    batch = generate(service, request(put_adapter(world.stores, base), {"lies": 2, "stands": 1}))[-1].batch
    rows = read_rows(world.stores("assembly"), batch.manifest)
    assert [row.prompt for row in rows] == ["lies", "lies", "stands"]
    assert [json.loads(row.receipt)["prompt"] for row in rows[1:]] == [
        f"a photograph of class {name}" for name in ("lies", "stands")
    ]
    assert receipt_of(world.stores("assembly").get(rows[0].uri)) == json.loads(rows[0].receipt)


def test_a_jpeg_carries_its_receipt_too(world: World, service: GenerationServicer, base: Path) -> None:
    call = request(put_adapter(world.stores, base), {"lies": 1}, output=INLINE, format="FORMAT_JPEG")
    [image] = images(generate(service, call))
    assert image.data.startswith(b"\xff\xd8")
    assert same(from_dict(generator_pb2.Receipt, receipt_of(image.data)), service)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (sampler_pb2.SamplerSettings(strength=0.5), "keep_latents"),
        (sampler_pb2.SamplerSettings(image_size=18), "multiple of 4"),
    ],
)
@pytest.mark.parametrize("output", [STORE, INLINE])
def test_settings_that_a_generator_cannot_draw_with_are_refused_before_any_work(
    world: World, service: GenerationServicer, base: Path, sampler: Any, words: str, output: Any
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        generate(service, request(put_adapter(world.stores, base), {"lies": 1}, output=output, sampler=sampler))


def test_rejected_draws_are_named_and_not_sent(
    world: World, service: GenerationServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = np.zeros((8, 8, 1), np.uint8)
    monkeypatch.setattr(ClassConditional, "pixels", lambda self, samples, sampler: [black] * len(samples))
    name = world.finetune()
    events = generate(service, request(name, {"lies": 2}, output=INLINE))
    rejected = [event.rejected for event in events if event.HasField("rejected")]
    assert [draw.reason for draw in rejected] == [generator_pb2.Rejection.REASON_BLACK] * 2
    assert [draw.receipt.index for draw in rejected] == [0, 1]
    assert not images(events)
    batch = generate(service, request(name, {"lies": 2}))[-1].batch
    assert [(entry.class_name, entry.count) for entry in batch.rejected] == [("lies", 2)]
    assert batch.drawn == 0


def test_progress_counts_steps_up_to_their_total(world: World, service: GenerationServicer) -> None:
    name = world.finetune()
    for output in (INLINE, STORE):
        call = request(name, {"lies": 40}, output=output, sampler=sampler_pb2.SamplerSettings(steps=3))
        progress = [event.progress for event in generate(service, call) if event.HasField("progress")]
        assert [event.steps for event in progress] == sorted(event.steps for event in progress)
        assert (progress[-1].steps, progress[-1].steps_total, progress[-1].queue_position) == (120, 120, 0)
        assert (progress[-1].total, progress[-1].unit) == (40, "images")
