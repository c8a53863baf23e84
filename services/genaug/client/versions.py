"""Names of dataset versions as people write them: NAME, NAME@VERSION, NAME@RUN/SCENARIO."""

from __future__ import annotations

import re
from collections.abc import Callable

from genaug.shared.errors import FailedPrecondition, InvalidArgument
from genaug.v1 import run_pb2

_VERSION = re.compile("real|[0-9a-f]{32}")
_RUN = re.compile(r"[a-z][a-z0-9-]{0,62}-[0-9a-f]{8}")


def split_version(name: str, get_run: Callable[[str], run_pb2.Run]) -> tuple[str, str]:
    """Return the resource name of the dataset and the id of the version, which is empty where none is named.

    Args:
        name: "eyes", "eyes@real", "eyes@<32 hex digits>", "eyes@<run>/<scenario>", or with the number of an outer fold
            "eyes@<run>/<scenario>/<fold>". The dataset may have its collection: "datasets/eyes".
        get_run: Returns the run of a resource name.

    Raises:
        NotFound: there is no such run.
        InvalidArgument: the name has another form, or the run has another dataset, no such scenario or no such fold.
        FailedPrecondition: the run has not assembled its scenarios yet.
    """
    dataset, at, version = name.partition("@")
    dataset = f"datasets/{dataset.removeprefix('datasets/')}"
    if not at or _VERSION.fullmatch(version):
        return dataset, version
    run_id, *rest = version.removeprefix("runs/").split("/")
    if len(rest) > 2 or not _RUN.fullmatch(run_id):
        raise InvalidArgument(
            f"{name!r}: after the @ comes real, 32 hex digits, or a run with its scenario such as RUN/synthetic-x1",
            reason="BAD_NAME",
        )
    run = get_run(f"runs/{run_id}")
    if f"datasets/{run.spec.dataset}" != dataset:
        raise InvalidArgument(f"{name!r}: {run.name} is of datasets/{run.spec.dataset}", reason="OTHER_DATASET")
    return dataset, _version_of(run, name, *rest)


def _version_of(run: run_pb2.Run, name: str, scenario: str = "", fold: str = "") -> str:
    scenarios = [entry.name for entry in run.spec.scenarios]
    if scenario not in scenarios:
        raise InvalidArgument(
            f"{name!r}: {run.name} has the scenarios {', '.join(scenarios)}; name one as {run.spec.dataset}@"
            f"{run.name.removeprefix('runs/')}/{scenarios[0]}",
            reason="UNKNOWN_SCENARIO",
        )
    versions = [result for step in run.steps if step.name == "assemble" for result in step.results]
    folds = len(versions) // len(scenarios)
    if not folds:
        raise FailedPrecondition(
            f"{run.name} has not assembled its scenarios yet; `genaug run watch {run.name}` follows it",
            reason="NOT_ASSEMBLED",
        )
    if not fold and folds > 1:
        raise InvalidArgument(
            f"{name!r}: {run.name} has {folds} outer folds; add one, as in {name}/1", reason="FOLD_REQUIRED"
        )
    number = int(fold or 1) if (fold or "1").isascii() and (fold or "1").isdecimal() else 0
    if not 1 <= number <= folds:
        raise InvalidArgument(f"{name!r}: {run.name} has the outer folds 1 to {folds}", reason="UNKNOWN_FOLD")
    return versions[(number - 1) * len(scenarios) + scenarios.index(scenario)].rsplit("/", 1)[-1]
