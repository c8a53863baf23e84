"""When an embedded server may be used by another command, and what a waiting client says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from genaug.client import embedded
from genaug.client.embedded import fingerprints
from genaug.shared.settings import environment_of, load_settings


def differing(first: dict[str, str], second: dict[str, str]) -> set[str]:
    return {name for name in {*first, *second} if first.get(name) != second.get(name)}


def test_a_server_has_the_fingerprints_of_the_command_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(
        home=tmp_path, inference={"preload": ["classifiers/a"], "max_delay_s": 1e-5}, auth={"token": "s3cret"}
    )
    own = fingerprints(settings)
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GENAUG_SERVER__ADDRESS", "unix:/elsewhere")
    assert fingerprints(load_settings()) == own
    assert "s3cret" not in json.dumps(own)


def test_what_differs_is_named_as_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprints(load_settings(home=tmp_path))
    assert differing(first, fingerprints(load_settings(home=tmp_path, jobs={"runs": 3}))) == {"jobs.runs"}
    secret = load_settings(home=tmp_path, store={"secret_access_key": "other"})
    assert differing(first, fingerprints(secret)) == {"store.secret_access_key"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.chdir(tmp_path)
    assert differing(first, fingerprints(load_settings(home=tmp_path))) == {"CUDA_VISIBLE_DEVICES", "working folder"}


def test_an_edit_of_the_code_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "genaug"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(embedded.genaug, "__file__", str(package / "__init__.py"))
    settings = load_settings(home=tmp_path)
    first = fingerprints(settings)
    assert fingerprints(settings) == first
    os.utime(package / "__init__.py", (1, 1))
    assert differing(first, fingerprints(settings)) == {"code"}


def test_a_waiting_client_says_each_change_once_and_now_and_then_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(embedded.time, "monotonic", lambda: now)
    monkeypatch.setattr(embedded.time, "sleep", sleep)
    said: list[str] = []
    waiting = embedded._Waiting(said.append, tmp_path / "log")
    while now < 101:
        waiting.wait("starting")
    assert said == []
    while now < 110:
        waiting.wait("starting")
    while now < 150:
        waiting.wait("opening")
    assert said == ["starting…", "opening…", f"opening… (40 s; log: {tmp_path / 'log'})"]
