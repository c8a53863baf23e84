from __future__ import annotations

import pytest

from genaug.shared import names
from genaug.shared.errors import InvalidArgument

DIGEST = "0123456789abcdef" * 2


def test_names_give_their_ids() -> None:
    assert names.dataset_id("datasets/odir-5") == "odir-5"
    assert names.version_ids("datasets/odir/versions/real") == ("odir", "real")
    assert names.version_ids(f"datasets/odir/versions/{DIGEST}") == ("odir", DIGEST)
    assert names.digest_id(f"generators/{DIGEST}", "generators") == DIGEST
    assert names.run_id("runs/odir-5class-0123abcd") == "odir-5class-0123abcd"


@pytest.mark.parametrize(
    "bad",
    ["", "odir", "datasets/", "datasets/../x", "datasets/Odir", "datasets/a/b", "datasets/a\n", "datasets/" + "a" * 64],
)
def test_a_bad_dataset_name_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument):
        names.dataset_id(bad)


@pytest.mark.parametrize(
    "bad", ["generators/x", f"classifiers/{DIGEST}", f"generators/{DIGEST}/../..", f"generators/{DIGEST.upper()}"]
)
def test_a_bad_digest_name_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument):
        names.digest_id(bad, "generators")


@pytest.mark.parametrize("bad", ["datasets/a/versions/../b", "datasets/a/versions/latest", "datasets/a/version/real"])
def test_a_bad_version_name_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument):
        names.version_ids(bad)
