"""Pseudonyms of subjects."""

from __future__ import annotations

from genaug.assembly.pseudonyms import KEY, Pseudonyms


def test_ids_are_stable_within_an_installation(stores) -> None:
    one, two = Pseudonyms(stores("assembly")), Pseudonyms(stores("assembly"))
    assert one.of("d", "patient 1", image_id="i") == two.of("d", "patient 1", image_id="j")
    assert len(stores("assembly").get(KEY)) == 32


def test_ids_tell_subjects_datasets_and_lone_images_apart(stores) -> None:
    ids = Pseudonyms(stores("assembly"))
    names = [
        ids.of("d", "p", image_id="i"),
        ids.of("d", "q", image_id="i"),
        ids.of("e", "p", image_id="i"),
        ids.of("d", "", image_id="i"),
        ids.of("d", "", image_id="j"),
        ids.of("d", "i", image_id="i"),
    ]
    assert len(set(names)) == len(names)
