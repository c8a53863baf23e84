"""The page of a description: one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genaug.shared.pages import environment

_SIDES = ("training", "validation", "test")
# What each measure is, for the reader.
_MEANINGS = {
    "width": "width, pixels",
    "height": "height, pixels",
    "brightness": "brightness: mean luma, 0 to 1",
    "contrast": "contrast: standard deviation of luma, 0 to 1",
    "sharpness": "sharpness: variance of the Laplacian at 256 pixels",
}


def render(description: Mapping[str, Any], dataset: Mapping[str, Any]) -> str:
    """The page, from the messages `DatasetDescription` and `Dataset` as JSON. All from outside is escaped."""
    classes = [one["class_name"] for one in description["classes"]]
    return (
        environment("genaug.assembly", "describe")
        .get_template("page.html.j2")
        .render(
            d=description,
            dataset=dataset,
            classes=classes,
            totals={
                side: sum(one[side] for one in description["classes"]) for side in ("training", "validation", "test")
            },
            attributes=[_attribute(one, classes) for one in description["attributes"]],
            measures=_measures(description["measures"]),
            most=max((int(one["training"]) for one in description["classes"]), default=1) or 1,
            subjects=sum(description["images_per_subject"]),
        )
    )


def _attribute(attribute: Mapping[str, Any], classes: list[str]) -> dict[str, Any]:
    """Counts of one attribute as a table: a row per value, a column per class."""
    rows = []
    for value in attribute["values"]:
        counts = {one["class_name"]: int(one["count"]) for one in value["counts"]}
        rows.append(
            {"value": value["value"], "counts": [counts.get(name, 0) for name in classes], "all": sum(counts.values())}
        )
    return {"name": attribute["name"], "rows": rows, "most": max((row["all"] for row in rows), default=1)}


def _measures(measures: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By measure: its percentiles over all images, then over each class."""
    found: dict[str, dict[str, Any]] = {}
    for one in measures:
        entry = found.setdefault(one["name"], {"meaning": _MEANINGS.get(one["name"], one["name"]), "classes": []})
        percentiles = [_figure(value) for value in one["percentiles"]]
        if one["class_name"]:
            entry["classes"].append((one["class_name"], percentiles))
        else:
            entry["all"] = percentiles
    return list(found.values())


def _figure(value: float) -> str:
    """Digits that matter, as many for like values."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 2 else f"{value:.3f}"
