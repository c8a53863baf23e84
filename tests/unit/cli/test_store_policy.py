import fnmatch

from hypothesis import given
from hypothesis import strategies as st

from genaug.cli.store_policy import policy_of
from genaug.shared.store import ROLES

PREFIXES = sorted({one for access in ROLES.values() for one in (*access.reads, *access.writes)})


def allowed(policy: dict, action: str, key: str) -> bool:
    return any(
        action in statement["Action"] and fnmatch.fnmatchcase(f"arn:aws:s3:::b/{key}", pattern)
        for statement in policy["Statement"]
        for pattern in statement["Resource"]
    )


@given(role=st.sampled_from(sorted(ROLES)), prefix=st.sampled_from(PREFIXES), stem=st.sampled_from(["", "site"]))
def test_a_policy_allows_what_the_role_may_and_no_more(role: str, prefix: str, stem: str) -> None:
    policy = policy_of(role, bucket="b", prefix=stem)
    key = "/".join(filter(None, (stem, f"{prefix}x")))
    access = ROLES[role]
    assert allowed(policy, "s3:GetObject", key) == prefix.startswith(access.reads + access.writes)
    assert allowed(policy, "s3:PutObject", key) == prefix.startswith(access.writes)
    listed = policy["Statement"][-1]["Condition"]["StringLike"]["s3:prefix"]
    assert any(fnmatch.fnmatchcase(key, one) for one in listed) == prefix.startswith(access.reads + access.writes)


def test_what_learns_never_reads_the_seal() -> None:
    for role in set(ROLES) - {"evaluate", "assembly"}:
        assert not allowed(policy_of(role, bucket="b"), "s3:GetObject", "sealed/images/aa/x")
    assert not allowed(policy_of("evaluate", bucket="b"), "s3:PutObject", "classifiers/x/model.safetensors")
