from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from genaug.assembly.describe.alarms import alarms
from genaug.assembly.describe.facts import Border, ImageFacts
from genaug.assembly.describe.quality import Quality
from genaug.assembly.describe.shortcuts import ALL, MIN_GROUPS, find_shortcuts
from genaug.schema.datasets import Dataset, DatasetDescription, Shortcut
from genaug.shared.manifest import Row

Change = Callable[[ImageFacts, str, str, np.random.Generator], ImageFacts]


def found(sizes: dict[str, int], change: Change | None = None, *, seed: int = 0, per_subject: int = 2):
    """Shortcuts of made facts; `change` plants one, given the facts, the class and the group."""
    rng = np.random.default_rng(seed)
    rows, facts = [], {}
    for name, size in sizes.items():
        for n in range(size):
            image, group = f"{rng.integers(0, 2**62):032x}", f"{name}{n // per_subject}"
            rows.append(Row(image, "", "", "", name, "train", subject_id=group, group_id=group))
            entry = ImageFacts(
                quality=Quality(float(rng.choice([256, 300, 512])), float(rng.choice([256, 480])), 0.5, 0.2, 50.0),
                format=str(rng.choice(["JPEG", "PNG"])),
                encoder=f"{rng.integers(0, 6)}",
                size_bytes=int(rng.integers(5000, 50000)),
                mean_color=tuple(rng.normal(100, 20, 3)),
                border=Border(*(rng.random(4) * (rng.random(4) < 0.3)), float(rng.integers(0, 20))),
                histogram=np.zeros(32, np.float32),
            )
            facts[image] = change(entry, name, group, rng) if change else entry
    return {entry.properties: entry for entry in find_shortcuts(rows, facts)}


def sentences(shortcuts: dict[str, Shortcut]) -> list[str]:
    return [alarm.sentence for alarm in alarms(DatasetDescription(shortcuts=tuple(shortcuts.values())), Dataset())]


FOUR = dict.fromkeys("abcd", 80)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [FOUR, {"a": 30, "b": 200}, dict.fromkeys("abcdefgh", 24)], ids=str)
def test_properties_that_mean_nothing_raise_no_alarm(sizes: dict[str, int], seed: int) -> None:
    shortcuts = found(sizes, seed=seed)
    assert not [entry for entry in shortcuts.values() if entry.tells]
    assert shortcuts[ALL].chance == pytest.approx(1 / len(sizes), abs=1e-4)
    assert not sentences(shortcuts)


def planted(entry: ImageFacts, name: str, group: str, rng: np.random.Generator) -> ImageFacts:
    wide = (name in "ab") == (rng.random() < 0.9)
    quality = replace(entry.quality, width=1024.0 if wide else 1000.0)
    return replace(entry, quality=quality, format="PNG" if (name in "ac") == (rng.random() < 0.9) else "JPEG")


def test_width_and_format_tell_four_classes_together() -> None:
    shortcuts = found(FOUR, planted)
    assert shortcuts["width"].accuracy == pytest.approx(0.45, abs=0.06)
    assert shortcuts["width, height and format"].accuracy == pytest.approx(0.81, abs=0.06)
    assert shortcuts["width, height and format"].lower < 0.81 < shortcuts["width, height and format"].upper
    assert not shortcuts["mean color"].tells
    (sentence,) = sentences(shortcuts)
    assert sentence.startswith("width, height and format alone tell the class in 8")
    assert "(chance 25%, " in sentence


def test_a_single_class_from_another_camera_is_named() -> None:
    def camera(entry: ImageFacts, name: str, group: str, rng: np.random.Generator) -> ImageFacts:
        return replace(entry, encoder="other") if name == "c" else entry

    shortcuts = found(dict.fromkeys("abcdefgh", 60), camera)
    assert shortcuts["encoder settings"].class_name == "c"
    (sentence,) = sentences(shortcuts)
    assert sentence.startswith("encoder settings alone tell 'c' from the other classes in 100%")


def test_what_belongs_to_a_patient_is_no_shortcut() -> None:
    """Each patient has a width of his own: a split by image would tell the class by it, a split by subject cannot."""

    def own_width(entry: ImageFacts, name: str, group: str, rng: np.random.Generator) -> ImageFacts:
        number = int(np.frombuffer(group.encode().ljust(8), np.int64)[0] % 9973)
        return replace(entry, encoder=group, quality=replace(entry.quality, width=float(number)))

    shortcuts = found({"a": 60, "b": 60}, own_width, per_subject=6)
    assert not shortcuts["encoder settings"].tells
    assert not shortcuts["size and encoder settings"].tells


def test_color_and_border_are_alarms_of_their_own() -> None:
    def bright(entry: ImageFacts, name: str, group: str, rng: np.random.Generator) -> ImageFacts:
        border = replace(entry.border, left=0.2) if name == "a" else entry.border
        return replace(entry, mean_color=(150.0 + rng.normal(0, 9) + 40 * (name == "b"), 90.0, 80.0), border=border)

    said = sentences(found({"a": 80, "b": 80}, bright))
    assert [sentence.split(" alone")[0] for sentence in said] == ["mean color", "border"]


def test_classes_of_few_subjects_are_not_tested() -> None:
    few = 2 * (MIN_GROUPS - 1)
    assert not found({"a": 80, "b": few})
    assert found({"a": 80, "b": few, "c": 80})[ALL].chance == 0.5
