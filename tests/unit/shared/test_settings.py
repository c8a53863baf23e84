from __future__ import annotations

from pathlib import Path

import pytest

from genaug.shared.errors import InvalidArgument
from genaug.shared.settings import environment_names, environment_of, load_settings


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)


def test_flags_win_over_environment_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "genaug.yaml").write_text("device: cpu\nserver: {threads: 4, address: 127.0.0.1:1}\nlog_level: ERROR\n")
    monkeypatch.setenv("GENAUG_SERVER__THREADS", "8")
    monkeypatch.setenv("GENAUG_LOG_LEVEL", "DEBUG")
    settings = load_settings(log_level="WARNING", home=str(tmp_path))
    assert settings.device == "cpu"
    assert settings.server.threads == 8
    assert settings.server.address == "127.0.0.1:1"
    assert settings.log_level == "WARNING"


def test_store_and_database_follow_the_home(tmp_path: Path) -> None:
    settings = load_settings(home=str(tmp_path / "h"))
    assert settings.store.url == f"file://{tmp_path}/h/store"
    assert settings.database.url == f"sqlite:///{tmp_path}/h/orchestrator.sqlite"


def test_an_unknown_key_is_refused_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "genaug.yaml").write_text("stoer: {url: x}")
    with pytest.raises(InvalidArgument, match="stoer"):
        load_settings()
    (tmp_path / "genaug.yaml").write_text("store: {ulr: x}")
    with pytest.raises(InvalidArgument, match=r"store\.ulr"):
        load_settings()
    (tmp_path / "genaug.yaml").unlink()
    monkeypatch.setenv("GENAUG_STORE__ULR", "x")
    with pytest.raises(InvalidArgument, match="GENAUG_STORE__ULR"):
        load_settings()


def test_a_value_out_of_range_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAUG_SERVER__THREADS", "0")
    with pytest.raises(InvalidArgument, match=r"server\.threads"):
        load_settings()


def test_secrets_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAUG_STORE__SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("GENAUG_AUTH__TOKEN", "hush")
    settings = load_settings()
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings.model_dump(mode="json"))


def test_a_subprocess_gets_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(home=str(tmp_path), device="cpu", store={"url": "memory://", "secret_access_key": "hush"})
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    again = load_settings()
    assert again == settings
    assert again.store.secret_access_key.get_secret_value() == "hush"


def test_a_full_queue_of_drawings_is_said_by_us_and_not_by_grpc(tmp_path: Path) -> None:
    settings = load_settings(home=str(tmp_path))
    assert settings.generation.queue < settings.server.threads
