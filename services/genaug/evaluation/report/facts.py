"""What a report says, as plain JSON: read from the store, derived from nothing but records and manifests.

Of the sealed rows it knows only what the evaluation's record says. Subject ids, original names and paths stay out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from genaug.evaluation.agreement import agreement
from genaug.evaluation.captions import Drawn, compare_captions
from genaug.shared.manifest import Row, counts, read_rows, read_table
from genaug.shared.provenance import now
from genaug.shared.store import Store

VERDICTS = ("accepted", "disagrees", "unsure", "degenerate")
Facts = dict[str, Any]

# What an import block says of the importer's own disk, and a generator of its trainer's.
_PATHS = ("images", "csv")
_FOLDERS = ("base", "autoencoder")


def gather(
    inputs: Mapping[str, Any],
    store: Store,
    *,
    real: Sequence[Row],
    labelled: Sequence[Row],
    labelled_again: Sequence[Row],
) -> Facts:
    """All numbers of a report.

    Args:
        inputs: A `report` Job's inputs.
        store: As the identity "report".
        real: The rows of the run's view.
        labelled: Generated images with their labels, all rounds.
        labelled_again: The same with the second labeler's labels; empty for none.
    """
    run = inputs["run"]
    dataset = store.get_json(f"{inputs['dataset']}/dataset.json")
    evaluation = store.get_json(f"{inputs['evaluation']}/evaluation.json")
    versions = {name: store.get_json(f"{version}/version.json") for name, version in inputs["versions"].items()}
    selection = store.get_json(f"{inputs['selection']}/selection.json") if inputs["selection"] else {}
    generators = [read_generator(store, name) for name in inputs["generators"]]
    match = store.get_json(f"{inputs['match']}/match.json") if inputs.get("match") else {}
    labeler = store.get_json(f"{inputs['labeler']}/classifier.json") if inputs["labeler"] else {}
    classes = list(run["spec"]["classes"])
    captions = caption_facts(
        inputs.get("compared", {}), store, classes=classes, labelled=labelled, generators=generators, match=match
    )
    scenarios = [scenario_facts(one, versions[one["name"]]) for one in run["spec"]["scenarios"]]
    return {
        "name": run["name"],
        "create_time": now(),
        "run_create_time": run.get("create_time", ""),
        "spec": public_spec(run["spec"]),
        "verdict": evaluation["verdict"],
        "classes": classes,
        "dataset": {key: value for key, value in dataset.items() if key not in ("dropped", "near_duplicates")},
        "dropped": dropped_facts(dataset.get("dropped", [])),
        # Their ids may be those of sealed images; the dataset's record has them.
        "near_duplicates": [{"correlation": pair["correlation"]} for pair in dataset.get("near_duplicates", [])],
        "scenarios": scenarios,
        "counts": count_facts(classes, dataset=dataset, real=real, scenarios=scenarios),
        "shortfalls": shortfalls(scenarios),
        "acceptance": acceptance_facts(classes, labelled),
        "rejected": [
            {"class": one["class_name"], "reason": one["reason"], "count": int(one["count"])}
            for one in inputs.get("rejected", [])
        ],
        "disagreement": disagreement(classes, labelled),
        "agreement": agreement(classes, labelled, labelled_again),
        "selection": selection,
        "match": match,
        "copies": copy_facts(run["spec"], match),
        "captions": captions,
        "evaluation": evaluation,
        "further_evaluations": [
            store.get_json(f"{name}/evaluation.json") for name in inputs.get("further_evaluations", [])
        ],
        "generators": generators,
        "labeler": labeler,
        "steps": [step for step in run.get("steps", []) if step["name"] != "report"],
        "provenance": provenance_facts(
            dataset, [*generators, *captions.get("generators", [])[1:]], labeler, selection, evaluation
        ),
    }


def public_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The run file without paths of the machines it was imported and trained on."""
    shown = dict(spec)
    if "import" in shown:
        shown["import"] = {key: value for key, value in shown["import"].items() if key not in _PATHS}
    if "generator" in shown:
        shown["generator"] = _without_folders(shown["generator"])
    return shown


def read_generator(store: Store, name: str) -> dict[str, Any]:
    """A Generator's record, without paths."""
    record: dict[str, Any] = store.get_json(f"{name}/generator.json")
    return {**record, "spec": _without_folders(record.get("spec", {}))}


def _without_folders(generator: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _last_part(value) if key in _FOLDERS and isinstance(value, str) else value
        for key, value in generator.items()
    }


def _last_part(place: str) -> str:
    """The last part of a path on a disk; "bases/{digest}" or an id of the Hub as it is."""
    if "\\" in place or PureWindowsPath(place).drive:
        return PureWindowsPath(place).name
    return PurePosixPath(place).name if place.startswith(("/", ".", "~")) else place


def copy_facts(spec: Mapping[str, Any], match: Mapping[str, Any]) -> dict[str, Any]:
    """What became of the images that are nearer to a training image than nature: a run left them out, or kept them."""
    suspected = sum(int(one.get("suspected_copies", 0)) for one in match.get("closenesses", []))
    # Runs that were begun before copies could be left out do not say.
    kept = bool(spec["generation"].get("keep_copies", True))
    return {"kept": kept, "suspected": suspected, "left_out": 0 if kept else suspected}


def caption_facts(
    compared: Mapping[str, Any],
    store: Store,
    *,
    classes: Sequence[str],
    labelled: Sequence[Row],
    generators: Sequence[Mapping[str, Any]],
    match: Mapping[str, Any],
) -> dict[str, Any]:
    """The run's captions beside those that it was to be compared with; empty for none.

    Args:
        compared: From a `report` Job's inputs: generator, counts, labels and match of the other captions.
        store: As the identity "report".
        classes: The label map.
        labelled: The run's own generated images.
        generators: Records of the run's generators.
        match: The run's own match.
    """
    if not compared.get("labels"):
        return {}
    theirs = [row for name in compared["labels"] for row in read_rows(store, f"{name}/manifest.parquet")]
    matches = [match, store.get_json(f"{compared['match']}/match.json") if compared.get("match") else {}]
    natural = {
        one["class_name"]: float(one.get("real_median", 0)) for found in matches for one in found.get("closenesses", [])
    }
    first = next(one for one in generators if one["spec"].get("kind") != "KIND_TRANSFORMS")
    return {
        "generators": [first, read_generator(store, compared["generator"])],
        **compare_captions(
            {name: compared["counts"][name] for name in classes if compared["counts"].get(name)},
            Drawn(labelled, _distances(store, matches[0])),
            Drawn(theirs, _distances(store, matches[1])),
            natural=natural,
        ),
    }


def _distances(store: Store, match: Mapping[str, Any]) -> dict[str, float]:
    table = read_table(store, match["nearest_real"]).to_pylist() if match else []
    return {row["made_id"]: row["distance"] for row in table}


def scenario_facts(scenario: Mapping[str, Any], version: Mapping[str, Any]) -> dict[str, Any]:
    """One scenario: its doses, its kind and what its version holds per class."""
    synthetic, transformed = float(scenario.get("synthetic", 0)), float(scenario.get("transformed", 0))
    return {
        "name": scenario["name"],
        "kind": "synthetic" if synthetic else "transformed" if transformed else "real",
        "synthetic": synthetic,
        "transformed": transformed,
        "sampling": scenario.get("sampling", "SAMPLING_NATURAL"),
        "reduction": scenario.get("reduction", "REDUCTION_SELECTED"),
        "version": version["name"],
        **{
            f"{key}_counts": _by_class(version.get(key, []))
            for key in ("real", "synthetic", "transformed", "shortfall")
        },
    }


def count_facts(
    classes: Sequence[str], *, dataset: Mapping[str, Any], real: Sequence[Row], scenarios: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Images per class: imported, in the run's view, kept after selection, held back, and made for each scenario."""
    imported = {key: _by_class(dataset.get(key, [])) for key in ("training", "validation", "test")}
    view = counts(real, split="train")
    reference = scenarios[0]["real_counts"] if scenarios else {}
    return [
        {
            "class": name,
            "imported": imported["training"].get(name, 0),
            "view": view.get(name, 0),
            "kept": reference.get(name, 0),
            "validation": counts(real, split="validation").get(name, 0),
            "test": imported["test"].get(name, 0),
            "made": {
                one["name"]: one["synthetic_counts"].get(name, 0) + one["transformed_counts"].get(name, 0)
                for one in scenarios
                if one["kind"] != "real"
            },
        }
        for name in classes
    ]


def shortfalls(scenarios: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Made images that were wanted and could not be had."""
    return [
        {"scenario": one["name"], "class": name, "missing": missing}
        for one in scenarios
        for name, missing in one["shortfall_counts"].items()
        if missing
    ]


def acceptance_facts(classes: Sequence[str], labelled: Iterable[Row]) -> list[dict[str, Any]]:
    """Verdicts on the images of each class that was asked for."""
    found: Counter[tuple[str, str]] = Counter((row.prompt, row.label_verdict) for row in labelled)
    table = []
    for name in classes:
        entry = {verdict: found[name, verdict] for verdict in VERDICTS}
        if drawn := sum(entry.values()):
            table.append({"class": name, "drawn": drawn, **entry})
    return table


def disagreement(classes: Sequence[str], labelled: Iterable[Row]) -> list[list[int]]:
    """Generated images by class asked for (rows) and label (columns), in the order of `classes`; empty for none."""
    found = Counter((row.prompt, row.label) for row in labelled)
    return [[found[asked, label] for label in classes] for asked in classes] if found else []


def dropped_facts(dropped: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was left out at import, by reason: how many, and where in the source."""
    by_reason: dict[str, list[Mapping[str, Any]]] = {}
    for one in dropped:
        by_reason.setdefault(one["reason"], []).append(one)
    return [
        {
            "reason": reason,
            "count": len(found),
            "rows": sorted(int(one.get("row", 0)) for one in found),
            "details": sorted({one["detail"] for one in found if one.get("detail")}),
        }
        for reason, found in sorted(by_reason.items())
    ]


def provenance_facts(*records: Any) -> list[dict[str, Any]]:
    """How each result was made."""
    listed: list[Mapping[str, Any]] = []
    for record in records:
        listed += record if isinstance(record, list) else [record]
    return [{"name": one["name"], **one["provenance"]} for one in listed if one.get("provenance")]


def _by_class(counted: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return {one["class_name"]: int(one.get("count", 0)) for one in counted}
