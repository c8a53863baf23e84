"""Bad input on real servers: the status, the reason, a message that says what to do, and nothing half-written."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tests.servers import GENAUG, Home, free_port, missing, wait_until

from genaug.client import connect, translated
from genaug.shared.errors import DeadlineExceeded
from genaug.shared.settings import StoreSettings
from genaug.shared.store import Store
from genaug.v1 import generation_service_pb2, generation_service_pb2_grpc

GENERATOR = f"generators/{'7' * 32}"


class Refusal(NamedTuple):
    code: str
    reason: str
    message: str


def refusal(call: Iterable[Any]) -> Refusal:
    """How the server refuses a call."""
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    status = rpc_status.from_call(caught.value)
    assert status is not None, caught.value
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "genaug"
    return Refusal(caught.value.code().name, info.reason, status.message)


@contextmanager
def serving(home: Home, service: str) -> Iterator[str]:
    """A server process; its address, once it listens."""
    address = f"127.0.0.1:{free_port()}"
    (home.folder / "logs").mkdir(parents=True, exist_ok=True)
    with (home.folder / "logs" / f"{service}.log").open("wb") as log:
        process = subprocess.Popen(
            [GENAUG, "serve", service, "--address", address], env=home.env(), stdout=log, stderr=log
        )
    try:
        wait_until(lambda: '"listening"' in home.log() or process.poll() is not None, what=f"{service}: {home.log()}")
        yield address
    finally:
        process.terminate()
        assert process.wait(30) == 0, home.log()


def health(address: str, service: str) -> str:
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def written(home: Home) -> set[str]:
    """Everything in the home's store."""
    store = home.folder / "store"
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """All services in one process; commands over this home call it."""
    home = Home(tmp_path_factory.mktemp("served"))
    with serving(home, "all") as address:
        home.environment["GENAUG_ENDPOINT"] = address
        yield home


@pytest.fixture
def generation(server: Home) -> Iterator[generation_service_pb2_grpc.GenerationServiceStub]:
    """The service's own stub, over a store that holds the record of one generator."""
    store = Store.open(StoreSettings(url=f"file://{server.folder / 'store'}"), "finetune")
    record = {"name": GENERATOR, "classes": ["0", "1"], "spec": {"class_conditional": {}}, "image_size": 8}
    store.put_new_json(f"{GENERATOR}/generator.json", record)
    with grpc.insecure_channel(server.environment["GENAUG_ENDPOINT"]) as channel:
        yield generation_service_pb2_grpc.GenerationServiceStub(channel)


def images(generator: str = GENERATOR, *, count: int = 1) -> generation_service_pb2.GenerateImagesRequest:
    counts = [{"class_name": "0", "count": count}]
    return generation_service_pb2.GenerateImagesRequest(generator=generator, counts=counts)


def test_an_unknown_generator(server: Home, generation) -> None:
    before = written(server)
    found = refusal(generation.GenerateImages(images(f"generators/{'0' * 32}")))
    assert found[:2] == ("NOT_FOUND", "GENERATOR_NOT_FOUND")
    assert "generators/000" in found.message
    assert "`genaug generator list` shows" in found.message
    assert refusal(generation.GenerateImages(images("generators/../sealed")))[:2] == ("INVALID_ARGUMENT", "BAD_NAME")
    assert written(server) == before


@pytest.mark.parametrize(
    ("count", "advice"), [(0, "ask for at least 1"), (-3, "ask for at least 1"), (10**9, "ask for 1 to 100000")]
)
def test_a_count_that_cannot_be(server: Home, generation, count: int, advice: str) -> None:
    before = written(server)
    found = refusal(generation.GenerateImages(images(count=count)))
    assert found[:2] == ("INVALID_ARGUMENT", "BAD_COUNT")
    assert f"counts: {count} images" in found.message
    assert advice in found.message
    assert written(server) == before


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.001])
def test_a_deadline_that_has_passed(server: Home, generation, seconds: float) -> None:
    before = written(server)
    # gRPC rounds a deadline up to a millisecond, which is enough for a refusal; not where it has passed.
    answers = {grpc.StatusCode.DEADLINE_EXCEEDED} | ({grpc.StatusCode.NOT_FOUND} if seconds >= 0 else set())
    with pytest.raises(grpc.RpcError) as caught:
        list(generation.GenerateImages(images(), timeout=seconds))
    assert caught.value.code() in answers, "the generator has no weights"
    assert caught.value.details()
    endpoint = server.environment["GENAUG_ENDPOINT"]
    request = generation_service_pb2.ListGeneratorsRequest()
    with connect(endpoint) as channel:
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        with pytest.raises(DeadlineExceeded, match="ask again with a longer one"), translated(endpoint):
            # A short list may beat a short deadline; not one that has passed.
            stub.ListGenerators(request, timeout=-1.0)
    assert generation.ListGenerators(request, timeout=10).generators, "the server goes on"
    assert written(server) == before


RUN_FILE = """
name: twin
dataset: few
import: {format: digits, keep: {"0": 30, "1": 30, "2": 0, "3": 0, "4": 0, "5": 0, "6": 0, "7": 0, "8": 0, "9": 0}}
generator: {class_conditional: {train_steps: 5000}}
evaluation: {seeds: 2}
"""


def test_runs_of_one_name(server: Home, tmp_path: Path) -> None:
    """A run's id holds a digest of its file: other files are other runs, the same file is the same run."""
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text(RUN_FILE)
    other.write_text(RUN_FILE.replace("seeds: 2", "seeds: 3"))
    first = server.json("run", "create", "-f", one)
    second = server.json("run", "create", "-f", other)
    try:
        assert first["name"] != second["name"]
        assert all(re.fullmatch("runs/twin-[0-9a-f]{8}", run["name"]) for run in (first, second))
        assert server.json("run", "create", "-f", one)["name"] == first["name"]
        listed = {run["name"]: run["spec"]["evaluation"]["seeds"] for run in server.json("run", "list")}
        assert listed == {first["name"]: 2, second["name"]: 3}
    finally:
        for run in (second, first):
            server.run("run", "cancel", run["name"])


@contextmanager
def web_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        found.server_close()


class Page(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


@contextmanager
def other_grpc_server() -> Iterator[str]:
    found = grpc.server(ThreadPoolExecutor(2))
    port = found.add_insecure_port("127.0.0.1:0")
    found.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        found.stop(0).wait()


@pytest.mark.parametrize(
    ("kind", "advice", "reason"),
    [
        ("web", "check --endpoint and that the server runs", "UNAVAILABLE"),
        ("grpc", "is it genaug, and of this version?", "NOT_THIS_SERVICE"),
        ("none", "check --endpoint and that the server runs", "UNAVAILABLE"),
    ],
)
def test_an_endpoint_that_is_not_genaug(tmp_path: Path, kind: str, advice: str, reason: str) -> None:
    home = Home(tmp_path / "home")

    def report(address: str) -> None:
        found = home.run("dataset", "list", "--endpoint", address, code=1, timeout=30)
        assert found.stdout == ""
        assert len(found.stderr.splitlines()) == 1, found.stderr
        assert address in found.stderr
        assert advice in found.stderr
        assert f"[{reason}]" in found.stderr

    if kind == "web":
        with web_server(Page) as address:
            report(address)
    elif kind == "grpc":
        with other_grpc_server() as address:
            report(address)
    else:
        report(f"127.0.0.1:{free_port()}")
    assert not home.folder.exists(), "with an endpoint, no server is started here"


BOMB = 'a: &a ["lol", "lol"]\nb: &b [*a, *a]\nc: &c [*b, *b]\nname: x\ndataset: d\n'


@pytest.mark.parametrize(
    ("text", "said", "reason"),
    [
        (
            "name: x\ndataset: d\nevaluation: {sedes: 3}\n",
            "evaluation.sedes: unknown key; did you mean 'seeds'?",
            "BAD_RUN_FILE",
        ),
        ("", "is empty; it needs at least `name` and `dataset`", "BAD_YAML"),
        ("name: x\ndataset: [d\n", "line 3, column 1", "BAD_YAML"),
        (BOMB, "line 2, column 8: aliases are not allowed", "BAD_YAML"),
        ("name: x\nname: y\ndataset: d\n", "the key 'name' stands twice", "BAD_YAML"),
        ("[" * 5000, "cannot be read", "BAD_YAML"),
    ],
    ids=["misspelt", "empty", "broken", "aliases", "twice", "deep"],
)
def test_a_run_file_that_cannot_be_read(tmp_path: Path, text: str, said: str, reason: str) -> None:
    home, path = Home(tmp_path / "home"), tmp_path / "run.yaml"
    path.write_text(text)
    found = home.run("run", "create", "-f", path, code=1, timeout=30)
    assert len(found.stderr.splitlines()) == 1, found.stderr
    assert said in found.stderr
    assert f"[{reason}]" in found.stderr
    assert not home.folder.exists(), "read before anything is started"


def test_an_unwritable_home(tmp_path: Path) -> None:
    """For root every folder is writable; nobody makes a folder in a file."""
    inside = tmp_path / "inside"
    if os.getuid() == 0:
        inside.write_text("")
    else:
        inside.mkdir(mode=0o500)
    found = Home(inside / "home").run("run", "list", code=1, timeout=30)
    assert len(found.stderr.splitlines()) == 1, found.stderr
    assert "cannot be written" in found.stderr
    assert "set --home or GENAUG_HOME to a folder you own [HOME_NOT_WRITABLE]" in found.stderr


# In a mount namespace of its own: the file system goes when the last command has ended.
FULL_DISK = """
set -u
mount -t tmpfs -o size=400k tmpfs "$STORE" || exit 99
import() { "$GENAUG" dataset import d --format digits --keep 0=60,1=60,2=60,3=60,4=60,5=60,6=60,7=60,8=60,9=60; }
import; echo "full: $?"
find "$STORE" -name dataset.json -o -name 'rows.parquet*' | wc -l
mount -o remount,size=64m "$STORE"
import >/dev/null; echo "again: $?"
find "$STORE" -name dataset.json | wc -l
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """A store on a file system of 400 kB."""
    if shutil.which("unshare") is None:
        missing("unshare (util-linux)")
    home, store = Home(tmp_path / "home"), tmp_path / "store"
    store.mkdir()
    home.environment |= {"GENAUG_STORE__URL": f"file://{store}", "STORE": str(store), "GENAUG": str(GENAUG)}
    own = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    found = subprocess.run([*own, "bash", "-c", FULL_DISK], env=home.env(), capture_output=True, text=True, timeout=120)
    if found.returncode == 99:
        missing(f"the right to mount a file system ({found.stderr.strip()})")
    assert "the store is full; free space and resume [STORE_FULL]" in found.stderr, home.log()
    assert found.stdout.split("\n")[:4] == ["full: 1", "0", "again: 0", "1"], f"{found}\n{home.log()}"


class CarelessS3(BaseHTTPRequestHandler):
    """S3, as far as the self-test goes, that takes no notice of If-None-Match."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200, b"", ETag='"1"')

    def do_POST(self) -> None:
        keys = re.findall(r"<Key>(.*?)</Key>", self.rfile.read(int(self.headers["Content-Length"])).decode())
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_DELETE(self) -> None:
        self.answer(204, b"")

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


def findings(home: Home) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in home.json("doctor", code=1)}


def test_a_store_without_conditional_put(tmp_path: Path) -> None:
    with web_server(CarelessS3) as address:
        home = Home(
            tmp_path / "home",
            {
                "GENAUG_STORE__URL": "s3://careless",
                "GENAUG_STORE__ENDPOINT": f"http://{address}",
                "GENAUG_STORE__ACCESS_KEY_ID": "somebody",
                "GENAUG_STORE__SECRET_ACCESS_KEY": "something",
            },
        )
        found = findings(home)["store"]
        assert not found["ok"]
        assert "a conditional put overwrote an object; use a store that honours If-None-Match" in found["detail"]
        with serving(home, "selection") as address_of_service:
            assert health(address_of_service, "genaug.v1.SelectionService") == "NOT_SERVING"
            assert health(address_of_service, "") == "NOT_SERVING"
        assert "a conditional put overwrote an object" in home.log()
        refused = home.run("dataset", "list", code=1).stderr
        assert "a conditional put overwrote an object" in refused, "the cause, not a wait"
        assert "NO_CONDITIONAL_PUT" in refused


def test_a_database_of_another_version(tmp_path: Path) -> None:
    home = Home(tmp_path)
    path = home.folder / "orchestrator.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE dbos_migrations (version INTEGER NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO dbos_migrations VALUES (100000)")
    connection.close()
    found = findings(home)["database"]
    assert not found["ok"]
    assert "start the newer release again, or name another database" in found["detail"]
    with serving(home, "orchestrator") as address:
        assert health(address, "genaug.v1.OrchestratorService") == "NOT_SERVING"
    assert "the database has schema version 100000" in home.log()
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    assert tables == [("dbos_migrations",)], "nothing was done to it"
