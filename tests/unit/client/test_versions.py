from __future__ import annotations

import pytest

from genaug.client.versions import split_version
from genaug.shared.errors import GenaugError
from genaug.v1 import run_pb2

RUN = "x-01234567"


def run_of(folds: int = 1):
    results = [f"datasets/eyes/versions/{n:032x}" for n in range(2 * folds)]
    scenarios = [run_pb2.Scenario(name="real"), run_pb2.Scenario(name="synthetic-x1")]
    record = run_pb2.Run(
        name=f"runs/{RUN}",
        spec=run_pb2.RunSpec(dataset="eyes", scenarios=scenarios),
        steps=[run_pb2.Step(name="view", results=["other"]), run_pb2.Step(name="assemble", results=results)],
    )

    def get(name: str) -> run_pb2.Run:
        assert name == record.name
        return record

    return get


@pytest.mark.parametrize(
    ("name", "folds", "version"),
    [
        ("eyes", 1, ""),
        ("datasets/eyes", 1, ""),
        ("eyes@real", 1, "real"),
        (f"eyes@{'a' * 32}", 1, "a" * 32),
        (f"eyes@{RUN}/real", 1, f"{0:032x}"),
        (f"datasets/eyes@runs/{RUN}/synthetic-x1", 1, f"{1:032x}"),
        (f"eyes@{RUN}/synthetic-x1/1", 1, f"{1:032x}"),
        (f"eyes@{RUN}/synthetic-x1/3", 3, f"{5:032x}"),
    ],
)
def test_a_version_is_found_by_its_scenario(name: str, folds: int, version: str) -> None:
    assert split_version(name, run_of(folds)) == ("datasets/eyes", version)


@pytest.mark.parametrize(
    ("name", "folds", "reason", "text"),
    [
        (f"eyes@{RUN}", 1, "UNKNOWN_SCENARIO", f"has the scenarios real, synthetic-x1; name one as eyes@{RUN}/real"),
        (f"eyes@{RUN}/synthetic-x9", 1, "UNKNOWN_SCENARIO", "real, synthetic-x1"),
        (f"ears@{RUN}/real", 1, "OTHER_DATASET", "is of datasets/eyes"),
        (f"eyes@{RUN}/real", 0, "NOT_ASSEMBLED", "has not assembled"),
        (f"eyes@{RUN}/real", 3, "FOLD_REQUIRED", f"add one, as in eyes@{RUN}/real/1"),
        (f"eyes@{RUN}/real/4", 3, "UNKNOWN_FOLD", "1 to 3"),
        (f"eyes@{RUN}/real/x", 3, "UNKNOWN_FOLD", "1 to 3"),
        (f"eyes@{RUN}/real/1/1", 1, "BAD_NAME", "RUN/synthetic-x1"),
        ("eyes@", 1, "BAD_NAME", "RUN/synthetic-x1"),
        ("eyes@synthetic-x1", 1, "BAD_NAME", "RUN/synthetic-x1"),
    ],
)
def test_a_version_that_is_not_there_is_refused_with_what_is(name: str, folds: int, reason: str, text: str) -> None:
    with pytest.raises(GenaugError) as caught:
        split_version(name, run_of(folds))
    assert caught.value.reason == reason
    assert text in caught.value.message
