"""Subject ids."""

from __future__ import annotations

from genaug.assembly.subjects import KEY, SubjectIds


def test_ids_are_stable_within_an_installation(stores) -> None:
    one, two = SubjectIds(stores("assembly")), SubjectIds(stores("assembly"))
    assert one.name("d", "patient 1", image_id="i") == two.name("d", "patient 1", image_id="j")
    assert len(stores("assembly").get(KEY)) == 32


def test_ids_tell_subjects_datasets_and_lone_images_apart(stores) -> None:
    ids = SubjectIds(stores("assembly"))
    names = [
        ids.name("d", "p", image_id="i"),
        ids.name("d", "q", image_id="i"),
        ids.name("e", "p", image_id="i"),
        ids.name("d", "", image_id="i"),
        ids.name("d", "", image_id="j"),
        ids.name("d", "i", image_id="i"),
    ]
    assert len(set(names)) == len(names)
