"""The store identities on a real MinIO: the server itself refuses what an identity may not, whatever a process asks."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest
from tests.servers import GENAUG, Home, Minio

from genaug.shared.errors import GenaugError, PermissionDenied
from genaug.shared.settings import StoreSettings
from genaug.shared.store import ROLES, Store

URL = "s3://identities/site"


@pytest.fixture(scope="module")
def credentials(minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credentials")
    for role in ROLES:
        (folder / f"{role}-access-key-id").write_text(f"genaug-{role}")
        (folder / f"{role}-secret-access-key").write_text(secrets.token_hex(20))
    environment = Home(folder / "home").env() | minio.environment("identities") | {"GENAUG_STORE__URL": URL}
    # Twice: the second brings up to date what is there.
    for _ in range(2):
        command = [GENAUG, "store", "provision", "--credentials", folder]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
    return folder


@pytest.fixture(scope="module")
def connect(minio: Minio, credentials: Path):
    def call(role: str, asks_as: str) -> Store:
        """The store with the credentials of `role`, whose own check lets through what `asks_as` may."""
        settings = StoreSettings(
            url=URL,
            endpoint=minio.endpoint,
            access_key_id=(credentials / f"{role}-access-key-id").read_text(),
            secret_access_key=(credentials / f"{role}-secret-access-key").read_text(),
        )
        return Store.open(settings, asks_as)

    return call


@pytest.fixture(scope="module")
def sealed(connect) -> str:
    key = "sealed/images/aa/an-image"
    connect("assembly", "assembly").put_new(key, b"pixels")
    return key


@pytest.mark.parametrize("role", sorted(ROLES))
def test_each_identity_may_what_its_step_needs(connect, role: str) -> None:
    store = connect(role, role)
    store.check()
    for prefix in ROLES[role].writes:
        key = f"{prefix}{role}"
        store.put_new(key, b"1")
        assert store.get(key) == b"1"
        assert key in [found for found, _ in store.list(prefix)]
        store.delete(key)
    for prefix in ROLES[role].reads:
        assert not store.exists(f"{prefix}nothing-here")
        assert list(store.list(f"{prefix}nothing-here/")) == []


@pytest.mark.parametrize("role", sorted(ROLES))
def test_of_those_who_work_evaluate_alone_reads_the_seal(connect, sealed: str, role: str) -> None:
    store = connect(role, "evaluate")
    # Assembly makes the seal; nothing learns or scores with its identity.
    if role in ("evaluate", "assembly"):
        assert store.get(sealed) == b"pixels"
        return
    for ask in (store.get, store.exists, lambda key: list(store.list("sealed/"))):
        with pytest.raises(PermissionDenied):
            ask(sealed)


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"assembly"}))
def test_nobody_else_writes_into_the_seal(connect, sealed: str, role: str) -> None:
    store = connect(role, "assembly")
    for write in (store.put_new, store.put):
        with pytest.raises(PermissionDenied):
            write("sealed/images/aa/another", b"x")
    with pytest.raises(PermissionDenied):
        store.delete(sealed)


def test_what_reads_the_seal_writes_nothing_that_learns(connect) -> None:
    for as_role, key in (("train", "classifiers/x/model.safetensors"), ("finetune", "generators/x/config.json")):
        with pytest.raises(PermissionDenied):
            connect("evaluate", as_role).put_new(key, b"x")


def test_wrong_credentials_are_said_to_be(minio: Minio, connect) -> None:
    settings = StoreSettings(
        url=URL, endpoint=minio.endpoint, access_key_id="nobody", secret_access_key="nothing-at-all"
    )
    with pytest.raises(GenaugError) as error:
        Store.open(settings, "train").exists("datasets/x")
    assert error.value.reason == "STORE_ACCESS_DENIED"
    assert "nothing-at-all" not in error.value.message
