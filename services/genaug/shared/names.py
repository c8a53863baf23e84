"""Resource names, as in AIP-122: `datasets/{dataset}/versions/{version}`, `generators/{digest}` and so on."""

from __future__ import annotations

import re

from genaug.shared.errors import InvalidArgument

_DATASET = re.compile(r"[a-z][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_RUN = re.compile(r"[a-z][a-z0-9-]{0,62}-[0-9a-f]{8}")


def _checked(pattern: re.Pattern[str], value: str, *, field: str, form: str) -> str:
    if not pattern.fullmatch(value):
        raise InvalidArgument(f"{field}: {value!r} is not of the form {form}", reason="BAD_NAME", field=field)
    return value


def check_id(value: str, *, field: str) -> str:
    """Return `value` if it can name a dataset or a run; raise InvalidArgument otherwise."""
    return _checked(
        _DATASET, value, field=field, form="lower-case letters, digits and hyphens, starting with a letter, at most 63"
    )


def dataset_id(name: str) -> str:
    """Return the id in "datasets/{dataset}"."""
    collection, _, dataset = name.partition("/")
    if collection != "datasets":
        raise InvalidArgument(f"{name!r} is not of the form datasets/{{dataset}}", reason="BAD_NAME")
    return check_id(dataset, field="dataset")


def version_ids(name: str) -> tuple[str, str]:
    """Return the ids (dataset, version) in "datasets/{dataset}/versions/{version}"."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "datasets" or parts[2] != "versions":
        raise InvalidArgument(
            f"{name!r} is not of the form datasets/{{dataset}}/versions/{{version}}", reason="BAD_NAME"
        )
    if parts[3] != "real":
        _checked(_DIGEST, parts[3], field="version", form='"real" or 32 hex digits')
    return check_id(parts[1], field="dataset"), parts[3]


def digest_id(name: str, collection: str) -> str:
    """Return the digest in "{collection}/{digest}", such as "generators/{digest}"."""
    head, _, digest = name.partition("/")
    if head != collection:
        raise InvalidArgument(f"{name!r} is not of the form {collection}/{{digest}}", reason="BAD_NAME")
    return _checked(_DIGEST, digest, field=collection, form=f"{collection}/<32 hex digits>")


def run_id(name: str) -> str:
    """Return the id in "runs/{run}"."""
    head, _, run = name.partition("/")
    if head != "runs":
        raise InvalidArgument(f"{name!r} is not of the form runs/{{run}}", reason="BAD_NAME")
    return _checked(_RUN, run, field="run", form="runs/<name>-<8 hex digits>")
