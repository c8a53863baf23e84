"""The embedded server: how it starts, stays for the next command, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.conftest import HOLD
from tests.servers import GENAUG, Home, wait_until

# In a server, before anything of ours: waits for the file `go` beside it.
SLOW = """
import os, sys, time
if "--embedded" in sys.orig_argv:
    while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
        time.sleep(0.05)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home whose server stays."""
    home = Home(tmp_path / "home", {"GENAUG_EMBEDDED__IDLE_S": "600"})
    yield home
    home.run("server", "stop", "--force")
    assert not home.has_server()


@contextmanager
def attached(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Another command over the home, which leads a process group."""
    command = [sys.executable, "-c", HOLD]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=home.env(), stdin=pipe, stdout=pipe, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", home.log()
        yield process
        process.kill()


def with_settings(home: Home, **settings: str) -> Home:
    return Home(home.folder, home.environment | settings)


def test_the_next_command_finds_the_server(home: Home) -> None:
    home.run("dataset", "list")
    first = home.server_pid()
    assert home.run("run", "list").stderr == ""
    assert home.server_pid() == first
    assert home.run("server", "stop").stderr.endswith(f"{home.folder}: stopped\n")
    assert not home.has_server()
    assert home.run("server", "stop").stderr == f"{home.folder}: no server\n"


def test_a_server_ends_by_itself(tmp_path: Path) -> None:
    home = Home(tmp_path, {"GENAUG_EMBEDDED__IDLE_S": "0.5"})
    home.run("dataset", "list")
    wait_until(lambda: not home.has_server(), what="the server's end")


def test_a_server_whose_home_is_gone_ends(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", {"GENAUG_EMBEDDED__IDLE_S": "600"})
    home.run("dataset", "list")
    pid = home.server_pid()
    home.folder.rename(tmp_path / "elsewhere")
    wait_until(lambda: not Home(tmp_path / "elsewhere").has_server(), what=f"the end of {pid}")


@pytest.fixture
def slow(home: Home, tmp_path: Path) -> Home:
    """The home, whose next server starts once there is a file `go` in the test's folder."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    return with_settings(home, PYTHONPATH=path)


def test_a_server_is_waited_for_and_says_what_it_does(slow: Home, tmp_path: Path) -> None:
    command = [GENAUG, "dataset", "list"]
    with subprocess.Popen(command, env=slow.env(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "genaug: starting the server…\n".encode()
        assert process.poll() is None
        (tmp_path / "go").touch()
        process.stderr.read()
        assert process.wait() == 0, slow.log()


def test_ctrl_c_while_it_starts_is_not_for_the_server(slow: Home, tmp_path: Path) -> None:
    command = slow.start("dataset", "list")
    wait_until(lambda: (slow.folder / "server.lock").exists() and slow.has_server(), what="a server")
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait() != 0
    assert slow.has_server()
    (tmp_path / "go").touch()
    slow.run("dataset", "list")
    assert slow.log().count('"listening"') == 1


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    home = Home(tmp_path, {"GENAUG_DATABASE__URL": "sqlite:////dev/null/none.sqlite"})
    found = home.run("dataset", "list", code=1)
    assert "the embedded server did not start" in found.stderr
    assert "/dev/null" in found.stderr
    assert "SERVER_DID_NOT_START" in found.stderr


def test_ctrl_c_of_a_command_is_not_for_the_server(home: Home) -> None:
    with attached(home) as process:
        server = home.server_pid()
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGHUP)
        process.wait()
    home.run("dataset", "list")
    assert home.server_pid() == server


def test_after_a_kill_of_everything_the_next_command_starts(home: Home) -> None:
    with attached(home) as process:
        server = home.server_pid()
        home.kill(process)
    home.run("dataset", "list")
    assert home.server_pid() != server


def test_a_server_with_other_settings_is_replaced_when_it_is_idle(home: Home) -> None:
    home.run("dataset", "list")
    first = home.server_pid()
    other = with_settings(home, GENAUG_JOBS__RUNS="2")
    other.run("dataset", "list")
    assert other.server_pid() != first


def test_a_server_with_other_settings_that_is_in_use_is_not_used_in_silence(home: Home, tmp_path: Path) -> None:
    with attached(home):
        first = home.server_pid()
        found = with_settings(home, GENAUG_JOBS__RUNS="2").run("dataset", "list")
        assert "was started with other jobs.runs" in found.stderr
        elsewhere = with_settings(home, GENAUG_STORE__URL=f"file://{tmp_path / 'store'}")
        assert "OTHER_SERVER" in elsewhere.run("dataset", "list", code=1).stderr
        assert "SERVER_IN_USE" in home.run("server", "stop", code=1).stderr
        assert home.server_pid() == first
        home.run("server", "stop", "--force")
        assert not home.has_server()


def test_commands_that_start_together_share_one_server(home: Home) -> None:
    commands = [home.start("dataset", "list") for _ in range(3)]
    assert [command.wait() for command in commands] == [0, 0, 0], home.log()
    assert home.log().count('"listening"') == 1
