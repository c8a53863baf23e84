from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genaug.shared.errors import InvalidArgument
from genaug.shared.settings import Settings, environment_names, environment_of, load_settings


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


def test_the_file_is_the_one_that_genaug_config_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "genaug.yaml").write_text("device: cuda")
    named = tmp_path / "named.yaml"
    named.write_text("device: cpu")
    monkeypatch.setenv("GENAUG_CONFIG", str(named))
    assert load_settings(home=str(tmp_path)).device == "cpu"
    named.unlink()
    with pytest.raises(InvalidArgument, match=r"GENAUG_CONFIG.*named\.yaml"):
        load_settings(home=str(tmp_path))


def test_every_setting_is_described_and_credentials_are_marked() -> None:
    def leaves(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        for name, value in schema["properties"].items():
            if "$ref" in value:
                yield from leaves(definitions[value["$ref"].rpartition("/")[2]], f"{path}{name}.")
            else:
                yield f"{path}{name}", value

    schema = Settings.model_json_schema()
    definitions = schema["$defs"]
    settings = dict(leaves(schema))
    assert [name for name, value in settings.items() if not value.get("description")] == []
    assert {name for name, value in settings.items() if value.get("writeOnly")} == {
        "auth.token",
        "database.url",
        "store.access_key_id",
        "store.secret_access_key",
    }


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "xpu:0"])
def test_a_device_of_torch_is_accepted(device: str) -> None:
    assert load_settings(device=device).device == device


@pytest.mark.parametrize("setting", [{"device": "gpu"}, {"device": "cuda:"}, {"store": {"endpoint": "minio:9000"}}])
def test_a_malformed_device_or_endpoint_is_named(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"device|store\.endpoint"):
        load_settings(**setting)
