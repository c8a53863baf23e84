"""ODIR's keywords and the classes they name."""

from __future__ import annotations

import pytest

from genaug.client.importers.keywords import disease_classes, split_keywords


def test_the_separator_is_the_full_width_comma() -> None:
    text = "macular epiretinal membrane，Lens  dust,drusen，"
    assert split_keywords(text) == ["macular epiretinal membrane", "lens dust", "drusen"]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("normal fundus", []),
        ("lens dust，normal fundus", []),
        ("laser spot，moderate non proliferative retinopathy", ["D"]),
        ("mild nonproliferative retinopathy，severe proliferative diabetic retinopathy", ["D"]),
        ("suspected glaucoma，suspicious diabetic retinopathy", ["G", "D"]),
        ("hypertensive retinopathy，age-related macular degeneration", ["H", "A"]),
        ("drusen，epiretinal membrane，refractive media opacity", ["O"]),
        ("drusen，wet age-related macular degeneration", ["O", "A"]),
        ("glaucoma，myopia retinopathy", ["G", "M"]),
        ("myopic maculopathy", ["O"]),
        ("pathological myopia", ["M"]),
        ("cataract，post laser photocoagulation", ["C"]),
    ],
)
def test_diseases_are_named_in_order_and_once(text: str, classes: list[str]) -> None:
    assert disease_classes(split_keywords(text)) == classes
