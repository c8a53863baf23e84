"""The servicer as its server calls it; the wire itself is tested with the servers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.unit.generation.conftest import IMAGES, World

from genaug.generation.service import GenerationServicer
from genaug.shared.errors import Cancelled, GenaugError, InvalidArgument, NotFound
from genaug.shared.manifest import read_rows
from genaug.shared.protojson import from_dict
from genaug.shared.settings import Settings
from genaug.v1 import common_pb2, generator_pb2, sampler_pb2
from genaug.v1 import generation_service_pb2 as wire
from genaug.vision.images import decode, pixel_sha256

KINDS = ["KIND_CLASS_CONDITIONAL", "KIND_TRANSFORMS"]
STORE, INLINE = wire.GenerateImagesRequest.OUTPUT_STORE, wire.GenerateImagesRequest.OUTPUT_INLINE
FAST = sampler_pb2.SamplerSettings(steps=2, guidance_scale=1.5)


class Context:
    """A call that is asked `answers` times whether it goes on, and then is not."""

    def __init__(self, answers: int = 10**9) -> None:
        self._answers = answers

    def is_active(self) -> bool:
        self._answers -= 1
        return self._answers >= 0


@pytest.fixture
def service(world: World) -> Iterator[GenerationServicer]:
    servicer = GenerationServicer(world.stores("generation"), Settings(device="cpu"))
    yield servicer
    servicer.close()


def request(generator: str, counts: Mapping[str, int], **fields: Any) -> wire.GenerateImagesRequest:
    listed = [common_pb2.ClassCount(class_name=name, count=count) for name, count in counts.items()]
    return wire.GenerateImagesRequest(generator=generator, counts=listed, **{"sampler": FAST, **fields})


def generate(
    service: GenerationServicer, asked: wire.GenerateImagesRequest, context: Any = None
) -> list[wire.GenerateImagesResponse]:
    return list(service.GenerateImages(asked, context or Context()))


def images(events: list[wire.GenerateImagesResponse]) -> list[wire.GeneratedImage]:
    return [event.image for event in events if event.HasField("image")]


@pytest.mark.parametrize(("kind", "source"), list(zip(KINDS, ["synthetic", "transformed"], strict=True)))
def test_a_batch_lies_in_the_store_and_is_found_again(
    world: World, service: GenerationServicer, kind: str, source: str
) -> None:
    asked = request(world.finetune(kind=kind), {"stands": 3, "lies": 2}, seed=4, output=STORE)
    events = generate(service, asked)
    assert [event.WhichOneof("event") for event in events][-2:] == ["progress", "batch"]
    assert (events[-2].progress.done, events[-2].progress.total, events[-2].progress.unit) == (5, 5, "images")
    batch = events[-1].batch
    assert [(entry.class_name, entry.count) for entry in batch.counts] == [("lies", 2), ("stands", 3)]
    assert batch.drawn == 5
    rows = read_rows(world.stores("assembly"), batch.manifest)
    assert {row.source for row in rows} == {source}
    assert [bool(row.parent_ids) for row in rows] == [kind == "KIND_TRANSFORMS"] * 5
    [again] = generate(service, asked)
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
def test_an_image_is_drawn_again_from_the_receipt_in_its_manifest(
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


def test_unset_sampler_settings_are_twenty_steps_and_a_guidance_of_one_and_a_half(
    world: World, service: GenerationServicer
) -> None:
    asked = request(world.finetune(), {"lies": 1}, output=INLINE, sampler=sampler_pb2.SamplerSettings())
    [image] = images(generate(service, asked))
    assert image.receipt.sampler == sampler_pb2.SamplerSettings(steps=20, guidance_scale=1.5)


def test_transforms_have_no_sampler_in_their_name(world: World, service: GenerationServicer) -> None:
    name = world.finetune(kind="KIND_TRANSFORMS")
    batches = {
        generate(service, request(name, {"lies": 1}, sampler=sampler))[-1].batch.name for sampler in (FAST, None)
    }
    assert len(batches) == 1


def test_transforms_cover_their_originals_evenly(world: World, service: GenerationServicer) -> None:
    name = world.finetune(kind="KIND_TRANSFORMS")
    drawn = images(generate(service, request(name, {"lies": 2 * IMAGES}, output=INLINE)))
    parents = [image.receipt.parent_ids[0] for image in drawn]
    assert {parents.count(parent) for parent in parents} == {2}
    assert len({image.data for image in drawn}) == 2 * IMAGES


def test_cancelling_keeps_what_was_finished(world: World, service: GenerationServicer) -> None:
    name = world.finetune()
    # A batch of 32 images asks twice, once per step: the second batch is cancelled at its second step.
    with pytest.raises(Cancelled):
        generate(service, request(name, {"lies": 40}), Context(answers=3))
    assert len(list(world.stores("assembly").list("draws/"))) == 32
    batch = generate(service, request(name, {"lies": 40}))[-1].batch
    assert batch.drawn == 8


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
def test_a_request_that_makes_no_sense_is_refused_before_any_work(
    world: World, service: GenerationServicer, fields: dict[str, Any], error: type[GenaugError], words: str
) -> None:
    asked = {"generator": world.finetune(kind="KIND_CLASS_CONDITIONAL", train_steps=1), "counts": {"lies": 1}}
    with pytest.raises(error, match=words):
        service.GenerateImages(request(**{**asked, **fields}), Context())  # type: ignore[arg-type]


def test_a_class_that_is_asked_for_twice_is_refused(world: World, service: GenerationServicer) -> None:
    asked = request(world.finetune(train_steps=1), {"lies": 1})
    asked.counts.add(class_name="lies", count=1)
    with pytest.raises(InvalidArgument, match="twice"):
        service.GenerateImages(asked, Context())


def test_generators_are_listed_by_pages_and_unfinished_ones_left_out(world: World, service: GenerationServicer) -> None:
    names = sorted(world.finetune(kind="KIND_TRANSFORMS", seed=seed) for seed in range(3))
    world.stores("finetune").put_new("generators/" + "0" * 32 + "/model.safetensors", b"")
    first = service.ListGenerators(wire.ListGeneratorsRequest(page_size=2), Context())
    second = service.ListGenerators(wire.ListGeneratorsRequest(page_token=first.next_page_token), Context())
    assert [generator.name for generator in [*first.generators, *second.generators]] == names
    assert second.next_page_token == ""


def test_a_generator_is_returned_by_name(world: World, service: GenerationServicer) -> None:
    name = world.finetune()
    found = service.GetGenerator(wire.GetGeneratorRequest(name=name), Context())
    assert (found.name, list(found.classes), found.spec.train_steps) == (name, ["lies", "stands"], 3)
    assert found.provenance.recipe == "finetune/3"


def test_the_service_starts_without_torch() -> None:
    code = "import sys, genaug.generation.service; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
