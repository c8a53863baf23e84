from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genaug.shared import access
from genaug.shared.access import Caller, read_callers
from genaug.shared.errors import FailedPrecondition, PermissionDenied, ResourceExhausted, Unauthenticated
from genaug.shared.settings import AuthSettings

ALICE = "a-token-of-alice-0123"


def callers(tmp_path: Path, text: str):
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    return read_callers(AuthSettings(tokens_file=str(path)), local=False)


def test_a_token_names_its_caller(tmp_path: Path) -> None:
    found = callers(tmp_path, f"alice: {{token: {ALICE}, at_once: 2}}\nbob: {{token: another-token-0123}}\n")
    assert found.find({"authorization": f"Bearer {ALICE}"}).name == "alice"
    assert found.find({"authorization": "bearer another-token-0123"}).name == "bob"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [({}, "NO_TOKEN"), ({"authorization": "Bearer nobody"}, "BAD_TOKEN"), ({"authorization": ALICE}, "BAD_TOKEN")],
)
def test_who_is_not_known_is_refused(tmp_path: Path, sent: dict[str, str], reason: str) -> None:
    found = callers(tmp_path, f"alice: {{token: {ALICE}}}\n")
    with pytest.raises(Unauthenticated) as error:
        found.find(sent)
    assert error.value.reason == reason


@pytest.mark.parametrize("text", ["alice: {token: short}", "alice: {tokn: x}", "- a list", "alice: {token: ["])
def test_a_bad_tokens_file_is_named_without_its_secrets(tmp_path: Path, text: str) -> None:
    with pytest.raises(FailedPrecondition) as error:
        callers(tmp_path, text)
    assert error.value.reason == "BAD_TOKENS_FILE"
    assert "short" not in error.value.message


def test_a_token_is_obligatory_where_others_can_call() -> None:
    with pytest.raises(FailedPrecondition) as error:
        read_callers(AuthSettings(), local=False)
    assert error.value.reason == "TOKEN_REQUIRED"
    assert not read_callers(AuthSettings(), local=True)
    assert not read_callers(AuthSettings(mode="none"), local=False)


@given(quota=st.integers(1, 50), more=st.integers(1, 20))
def test_a_minute_has_as_many_calls_as_the_quota(quota: int, more: int) -> None:
    clock = pytest.MonkeyPatch()
    now = [100.0]
    clock.setattr(access.time, "monotonic", lambda: now[0])
    try:
        caller = Caller("alice", b"", requests_per_minute=quota)
        for _ in range(quota):
            with caller.admitted():
                pass
        for _ in range(more):
            with pytest.raises(ResourceExhausted) as error, caller.admitted():
                pass
            assert float(error.value.metadata["retry_seconds"]) > 0
        now[0] += 60
        with caller.admitted():
            pass
    finally:
        clock.undo()


def test_calls_at_once_are_bounded_and_given_back() -> None:
    caller = Caller("alice", b"", at_once=1)
    with caller.admitted(), pytest.raises(ResourceExhausted), caller.admitted():
        pass
    with caller.admitted():
        pass


TRACE = "/genaug.v1.AssemblyService/TraceImages"
LIST = "/genaug.v1.AssemblyService/ListDatasets"


def test_names_and_subjects_take_a_right_of_their_own(tmp_path: Path) -> None:
    text = f"alice: {{token: {ALICE}, restricted: true}}\nbob: {{token: another-token-0123}}\n"
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    found = read_callers(AuthSettings(tokens_file=str(path), token="our-own-token-0123"), local=False)
    tokens = {name: found.find({"authorization": f"Bearer {token}"}) for name, token in (
        ("alice", ALICE), ("bob", "another-token-0123"), ("own", "our-own-token-0123")
    )}  # fmt: skip
    found.check_right(tokens["alice"], TRACE)
    for name in ("bob", "own"):
        found.check_right(tokens[name], LIST)
        with pytest.raises(PermissionDenied) as error:
            found.check_right(tokens[name], TRACE)
        assert error.value.reason == "RESTRICTED"


def test_without_tokens_only_this_machine_reads_names() -> None:
    read_callers(AuthSettings(), local=True).check_right(None, TRACE)
    own = read_callers(AuthSettings(token="our-own-token-0123"), local=True)
    own.check_right(own.find({"authorization": "Bearer our-own-token-0123"}), TRACE)
    with pytest.raises(PermissionDenied):
        read_callers(AuthSettings(mode="none"), local=False).check_right(None, TRACE)
