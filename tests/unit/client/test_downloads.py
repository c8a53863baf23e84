"""Exports as they are written: whole, below their folder, and not over anything else."""

from __future__ import annotations

import errno
import json
from hashlib import sha256

import pytest

from genaug.client.downloads import write_export
from genaug.shared.errors import FailedPrecondition, Internal, ResourceExhausted

HEAD = ("export.json", json.dumps({"name": "datasets/d/versions/real"}).encode())
FILES = [HEAD, ("train/a/1.png", b"first" * 10), ("train/a/2.png", b""), ("validation/b/3.png", b"third")]


def sending(files=FILES, cut: int = 7):
    """Pieces of `files`, with their sums."""
    sums = "".join(f"{sha256(data).hexdigest()}  {path}\n" for path, data in files)
    for path, data in [*files, ("SHA256SUMS", sums.encode())]:
        for start in range(0, max(1, len(data)), cut):
            yield path, data[start : start + cut]


def contents(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_sent_is_written(tmp_path) -> None:
    folder = tmp_path / "new" / "folder"
    assert write_export(sending(), folder) == 5
    found = contents(folder)
    found.pop("SHA256SUMS")
    assert found == dict(FILES)


def test_a_broken_export_is_completed_and_damage_mended(tmp_path) -> None:
    def breaking():
        for number, piece in enumerate(sending()):
            if number == 16:
                raise ConnectionError
            yield piece

    with pytest.raises(ConnectionError):
        write_export(breaking(), tmp_path)
    assert not (tmp_path / "SHA256SUMS").exists()
    (tmp_path / "train/a/1.png").write_bytes(b"damaged")
    write_export(sending(), tmp_path)
    kept = (tmp_path / "train/a/1.png").stat().st_mtime_ns
    write_export(sending(), tmp_path)
    assert (tmp_path / "train/a/1.png").stat().st_mtime_ns == kept
    assert contents(tmp_path)["train/a/1.png"] == b"first" * 10


@pytest.mark.parametrize("there", [{"mine.txt": b"x"}, {"export.json": b'{"name":"other"}'}])
def test_a_folder_with_anything_else_is_left_alone(tmp_path, there) -> None:
    for name, data in there.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FailedPrecondition) as caught:
        write_export(sending(), tmp_path)
    assert caught.value.reason == "FOLDER_NOT_EMPTY"
    assert contents(tmp_path) == there


@pytest.mark.parametrize(
    "path", ["../out.png", "/etc/out.png", "a/../../out.png", "a//b", "./a", "a\\..\\b", "c:b", "", "a\0b", "link/out"]
)
def test_a_path_out_of_the_folder_is_refused(tmp_path, path: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_export(sending(), folder)
    (folder / "link").symlink_to(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(Internal) as caught:
        write_export(sending([HEAD, (path, b"bad")]), folder)
    assert caught.value.reason == "BAD_EXPORT"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "pieces",
    [
        [piece for piece in sending() if piece[0] != "SHA256SUMS"],
        [*sending(FILES[:2]), ("more.png", b"x")],
        [piece for piece in sending() if piece[0] != "train/a/1.png"],
        [(path, data.replace(b"third", b"THIRD")) for path, data in sending()],
        list(sending(FILES[1:])),
        list(sending([*FILES, FILES[1]])),
        [],
    ],
    ids=["no-sums", "after-the-sums", "one-missing", "other-bytes", "no-head", "twice", "nothing"],
)
def test_a_server_that_does_not_send_what_it_says_is_refused(tmp_path, pieces) -> None:
    with pytest.raises(Internal) as caught:
        write_export(pieces, tmp_path)
    assert caught.value.reason == "BAD_EXPORT"


def test_disks_that_are_full_or_closed_are_said_so(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FailedPrecondition) as caught:
        write_export(sending(), tmp_path / "file" / "below")
    assert caught.value.reason == "NOT_WRITABLE"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ResourceExhausted) as exhausted:
        write_export(sending(), tmp_path / "empty")
    assert exhausted.value.reason == "DISK_FULL"
