from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest
import torch
from torch import Tensor

from genaug.generation.diffusion.denoise import Rows, Start
from genaug.generation.sampling.draw import draw
from genaug.generation.sampling.receipts import Sampler, Wanted
from genaug.shared.errors import Cancelled, InvalidArgument
from genaug.vision.images.pixels import Pixels


class Painter:
    """A generator whose images are their index; classes in capitals have a variant of their own."""

    name = "generators/" + "0" * 32
    classes = ("a", "A")
    bucket = 4
    device = torch.device("cpu")
    schedule: dict[str, object] = {"num_train_timesteps": 1000}  # noqa: RUF012
    clipped = False
    nbytes = 0

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.begun: list[list[int]] = []

    def bucket_at(self, image_size: int) -> int:
        return self.bucket

    def check(self, sampler: Sampler) -> None:
        pass

    def variant(self, class_name: str, sampler: Sampler) -> Hashable:
        return class_name.isupper()

    def begin(self, wanted: Sequence[Wanted], sampler: Sampler) -> Start:
        self.begun.append([one.index for one in wanted])
        noise = torch.stack([torch.full((1, 2, 2), float(one.index)) for one in wanted])
        return Start(noise, torch.zeros(len(wanted)), torch.ones(len(wanted)))

    def predict(self, rows: Rows, sampler: Sampler) -> Tensor:
        self.asked.append(len(rows.samples))
        return torch.zeros_like(rows.samples)

    def pixels(self, samples: Tensor, sampler: Sampler) -> list[Pixels]:
        return [one.permute(1, 2, 0).byte().numpy() for one in samples]


WANTED = [Wanted("a", 0, index) for index in range(10)]
SAMPLER = Sampler(steps=2, guidance_scale=1)


def test_images_come_in_order_from_rows_of_one_shape() -> None:
    painter = Painter()
    drawn = list(draw(painter, WANTED, sampler=SAMPLER, active=lambda: True))
    assert [one.wanted for one in drawn] == WANTED
    assert {one.bucket for one in drawn} == {4}
    assert painter.begun == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert painter.asked == [4] * 6


def test_a_receipt_may_ask_for_its_own_shape() -> None:
    painter = Painter()
    drawn = list(draw(painter, WANTED, sampler=SAMPLER, active=lambda: True, bucket=8))
    assert {one.bucket for one in drawn} == {8}
    assert painter.asked == [8] * 4


def test_images_of_two_variants_share_no_rows() -> None:
    painter = Painter()
    wanted = [Wanted(name, 0, index) for index, name in enumerate("aaAAa")]
    assert [one.wanted for one in draw(painter, wanted, sampler=SAMPLER, active=lambda: True)] == wanted
    assert painter.begun == [[0, 1], [2, 3], [4]]


def test_guidance_asks_twice_as_many_rows() -> None:
    painter = Painter()
    list(draw(painter, WANTED[:4], sampler=Sampler(steps=2, guidance_scale=2), active=lambda: True))
    assert painter.asked == [4] * 4


def test_cancelling_keeps_what_was_finished() -> None:
    answers = iter([True, True, True, False])
    events = draw(Painter(), WANTED, sampler=SAMPLER, active=lambda: next(answers))
    assert [next(events).wanted.index for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(Cancelled):
        next(events)


@pytest.mark.parametrize("bucket", [-1, 2000])
def test_a_shape_that_is_none_of_ours_is_refused(bucket: int) -> None:
    with pytest.raises(InvalidArgument, match=r"receipt\.bucket"):
        next(draw(Painter(), WANTED, sampler=SAMPLER, active=lambda: True, bucket=bucket))
