"""S3 policies of the store identities: `ROLES` enforced by the server, beside the check of `Store`."""

from __future__ import annotations

from typing import Any

from genaug.shared.store import ROLES, SELFTEST


def policy_of(role: str, *, bucket: str, prefix: str = "") -> dict[str, Any]:
    """Return the IAM policy of an identity, in the form that AWS and MinIO share.

    Args:
        role: One of `ROLES`.
        bucket: The bucket.
        prefix: Prefix of all keys, as in `s3://bucket/prefix`; without slashes at its ends.
    """
    access = ROLES[role]
    stem = f"{prefix}/" if prefix else ""
    writes = [f"{stem}{folder}" for folder in (*access.writes, SELFTEST)]
    reads = [*writes, *(f"{stem}{folder}" for folder in access.reads)]
    return {
        "Version": "2012-10-17",
        "Statement": [
            _statement(["s3:GetObject"], _keys(bucket, reads)),
            _statement(
                ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                _keys(bucket, writes),
            ),
            _statement(["s3:GetBucketLocation"], [f"arn:aws:s3:::{bucket}"]),
            _statement(["s3:ListBucket"], [f"arn:aws:s3:::{bucket}"])
            | {"Condition": {"StringLike": {"s3:prefix": sorted({f"{key}*" for key in reads})}}},
        ],
    }


def _statement(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _keys(bucket: str, prefixes: list[str]) -> list[str]:
    return sorted({f"arn:aws:s3:::{bucket}/{key}*" for key in prefixes})
