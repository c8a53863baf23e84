from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest
import torch
from torch import Tensor

from genaug.generation.diffusion.denoise import Rows, Start
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import ImageRequest
from genaug.schema.sampling import Sampler
from genaug.shared.errors import Cancelled, InvalidArgument
from genaug.vision.images.pixels import Pixels


class FakeDenoiser:
    """A generator whose images are constant, with their index as value; classes in capitals are another variant."""

    name = "generators/" + "0" * 32
    classes = ("a", "A")
    bucket = 4
    device = torch.device("cpu")
    schedule: dict[str, object] = {"num_train_timesteps": 1000}  # noqa: RUF012
    clipped = False
    nbytes = 0

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        """Rows of each call of the network."""
        self.begun: list[list[int]] = []
        """Indices of each cohort."""

    def bucket_at(self, image_size: int) -> int:
        return self.bucket

    def check(self, sampler: Sampler) -> None:
        pass

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        return class_name.isupper()

    def begin(self, requests: Sequence[ImageRequest], sampler: Sampler) -> Start:
        self.begun.append([request.index for request in requests])
        noise = torch.stack([torch.full((1, 2, 2), float(request.index)) for request in requests])
        return Start(noise, torch.zeros(len(requests)), torch.ones(len(requests)))

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        self.batch_sizes.append(len(rows.samples))
        return torch.zeros_like(rows.samples)

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        return [sample.permute(1, 2, 0).byte().numpy() for sample in samples]


REQUESTS = [ImageRequest("a", 0, index) for index in range(10)]
SAMPLER = Sampler(steps=2, guidance_scale=1)


def always() -> bool:
    return True


def test_images_come_in_order_from_batches_of_one_shape() -> None:
    denoiser = FakeDenoiser()
    images = list(draw(denoiser, REQUESTS, sampler=SAMPLER, is_active=always))
    assert [image.request for image in images] == REQUESTS
    assert {image.bucket for image in images} == {4}
    assert denoiser.begun == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert denoiser.batch_sizes == [4] * 6


def test_a_receipts_bucket_replaces_the_generators() -> None:
    denoiser = FakeDenoiser()
    images = list(draw(denoiser, REQUESTS, sampler=SAMPLER, is_active=always, bucket=8))
    assert {image.bucket for image in images} == {8}
    assert denoiser.batch_sizes == [8] * 4


def test_images_of_two_variants_share_no_batch() -> None:
    denoiser = FakeDenoiser()
    requests = [ImageRequest(name, 0, index) for index, name in enumerate("aaAAa")]
    assert [image.request for image in draw(denoiser, requests, sampler=SAMPLER, is_active=always)] == requests
    assert denoiser.begun == [[0, 1], [2, 3], [4]]


def test_guidance_takes_twice_as_many_rows() -> None:
    denoiser = FakeDenoiser()
    list(draw(denoiser, REQUESTS[:4], sampler=Sampler(steps=2, guidance_scale=2), is_active=always))
    assert denoiser.batch_sizes == [4] * 4


def test_cancelling_keeps_finished_images() -> None:
    answers = iter([True, True, True, False])
    images = draw(FakeDenoiser(), REQUESTS, sampler=SAMPLER, is_active=lambda: next(answers))
    assert [next(images).request.index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(Cancelled):
        next(images)


@pytest.mark.parametrize("bucket", [-1, 2000])
def test_a_bucket_out_of_range_is_refused(bucket: int) -> None:
    with pytest.raises(InvalidArgument, match=r"receipt\.bucket"):
        next(draw(FakeDenoiser(), REQUESTS, sampler=SAMPLER, is_active=always, bucket=bucket))
