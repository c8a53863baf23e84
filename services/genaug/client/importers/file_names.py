"""Match of the file names in a table with the files of a folder."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path

from genaug.client.importers import SourceReport
from genaug.client.importers.files import SUFFIXES
from genaug.client.importers.table import Line, refuse_lines

_SHOWN = 3
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,4}$", re.IGNORECASE)
_DRIVE = re.compile("^[a-z]:", re.IGNORECASE)

_UNICODE, _CASE = "other Unicode form", "other case"
_NO_SUFFIX, _OTHER_SUFFIX = "no suffix", "other suffix"
_BACKSLASHES, _OTHER_FOLDER = "backslashes", "other folder"


@dataclass(frozen=True)
class Rule:
    """How names may differ from those of their files: at most one way each in spelling, suffix and folder."""

    spelling: str = ""
    suffix: str = ""
    place: str = ""

    def __str__(self) -> str:
        return " and ".join(filter(None, (self.spelling, self.suffix, self.place)))

    def key_of_name(self, name: str) -> tuple[str, ...]:
        """Parts of a table's path to compare with `key_of_file`."""
        if self.place:
            name = name.replace("\\", "/")
        if self.suffix == _OTHER_SUFFIX:
            name = _SUFFIX.sub("", name)
        if self.place == _OTHER_FOLDER:
            name = _DRIVE.sub("", name)
        return self._key(posixpath.normpath(name))

    def key_of_file(self, file: str) -> tuple[str, ...]:
        """Parts of a file's path to compare with `key_of_name`."""
        return self._key(_SUFFIX.sub("", file) if self.suffix else file)

    def _key(self, path: str) -> tuple[str, ...]:
        if self.spelling and not path.isascii():
            path = unicodedata.normalize("NFC", path)
        return tuple((path.casefold() if self.spelling == _CASE else path).split("/"))


# From the strictest to the loosest.
_RULES = sorted(
    (
        Rule(spelling, suffix, place)
        for place, suffix, spelling in product(
            ("", _BACKSLASHES, _OTHER_FOLDER), ("", _NO_SUFFIX, _OTHER_SUFFIX), ("", _UNICODE, _CASE)
        )
    ),
    key=lambda rule: sum(map(bool, (rule.spelling, rule.suffix, rule.place))),
)[1:]
_SINGLE = _RULES[:6]
# What neither of these finds, no rule finds.
_LOOSEST = (Rule(_CASE, _NO_SUFFIX, _OTHER_FOLDER), Rule(_CASE, _OTHER_SUFFIX, _OTHER_FOLDER))


def match_files(folder: Path, lines: Sequence[Line], column: str, report: SourceReport) -> list[Path]:
    """Return the image file of each line; `column` holds its path below `folder`.

    Names without a file are tried with other spellings, suffixes and folders: the first rule that finds exactly one
    file for each of them is applied, and noted.

    Raises:
        InvalidArgument: no rule finds all files; the lines are counted and the first ones given.
    """
    root = folder.resolve()
    tree = _Tree(root)
    paths = [tree.find(line.cells[column]) for line in lines]
    missing = [line for line, path in zip(lines, paths, strict=True) if path is None]
    if not missing:
        return [path for path in paths if path]
    names = list(dict.fromkeys(line.cells[column] for line in missing))
    rule, files = _first_rule(names, tree.index)
    if not rule:
        _refuse(folder, missing, column, tree)
    report.notes.append(
        f"{column}: {len(missing)} of {len(lines)} names are not as in the folder and were matched by rule ({rule}), "
        f"such as {names[0]!r} with {files[names[0]]!r}"
    )
    return [path or root / files[line.cells[column]] for line, path in zip(lines, paths, strict=True)]


class _Tree:
    """The files below a folder. Folders that names lie in are listed once, instead of a look-up per name."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = cache(self._list)

    def relative(self, name: str) -> str | None:
        """Path below the folder; None if it lies outside."""
        if posixpath.isabs(name):
            name = posixpath.relpath(name, self._root)
        path = posixpath.normpath(name)
        return None if path.split("/", 1)[0] == ".." else path

    def find(self, name: str) -> Path | None:
        """Path of the file that is named exactly so; None if there is none inside the folder."""
        path = self.relative(name)
        if path is None:
            return None
        parent, file = posixpath.split(path)
        return self._root / path if file in self._files(parent) else None

    def _list(self, parent: str) -> frozenset[str]:
        """Names of the files of a folder, links that leave the root excepted."""
        folder = self._root / parent
        try:
            if not self._inside(folder):
                return frozenset()
            with os.scandir(folder) as entries:
                return frozenset(
                    entry.name
                    for entry in entries
                    if entry.is_file() and (not entry.is_symlink() or self._inside(Path(entry.path)))
                )
        except (OSError, ValueError):
            # No such folder; or a name that is none on this file system.
            return frozenset()

    def _inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._root)

    @cached_property
    def index(self) -> _Index:
        """Index of all files below the folder."""
        files = []
        for folder, _, _ in os.walk(self._root):
            parent = os.path.relpath(folder, self._root)
            parent = "" if parent == "." else parent
            files += [posixpath.join(parent, name) for name in self._files(parent)]
        return _Index(files)


_File = tuple[str, tuple[str, ...]]
"""A file's path and the key of it."""


class _Index:
    """Files of a folder, by their names as a rule has them."""

    def __init__(self, files: Iterable[str]) -> None:
        self._all = sorted(files)
        self._by_name = cache(self._keys)

    def candidates(self, name: str, rule: Rule) -> list[str]:
        """Return the files that `name` may be, by `rule`."""
        key = rule.key_of_name(name)
        by_name, folders = self._by_name(rule.spelling, bool(rule.suffix))
        files = by_name.get(key[-1], [])
        if rule.place != _OTHER_FOLDER:
            return [file for file, parts in files if parts == key]
        # Of files with this name, those in the same folders, as far as these are the same from the end.
        common = [_common_end(key, parts) for _, parts in files]
        most = max(common, default=0)
        if most == 1 and len(key) > 1 and key[-2] in folders:
            # The folder that is named is here, without the file: the same name in another folder is another image.
            return []
        return [file for (file, _), count in zip(files, common, strict=True) if count == most]

    def _keys(self, spelling: str, suffix: bool) -> tuple[dict[str, list[_File]], frozenset[str]]:
        """Return the files by the last part of their keys, and the names of all folders.

        Where suffixes are left out, a file that is no image, such as an annotation beside it, is none to be found.
        """
        rule = Rule(spelling, _NO_SUFFIX if suffix else "")
        by_name: dict[str, list[_File]] = defaultdict(list)
        folders: set[str] = set()
        for file in self._all:
            if suffix and posixpath.splitext(file)[1].lower() not in SUFFIXES:
                continue
            key = rule.key_of_file(file)
            folders.update(key[:-1])
            by_name[key[-1]].append((file, key))
        return dict(by_name), frozenset(folders)


def _common_end(first: Sequence[str], second: Sequence[str]) -> int:
    """Number of equal parts, counted from the end."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _first_rule(names: Sequence[str], index: _Index) -> tuple[Rule | None, dict[str, str]]:
    """Return the first rule that finds exactly one file for each name, and the file of each."""
    if any(not any(index.candidates(name, rule) for rule in _LOOSEST) for name in names):
        return None, {}
    for rule in _RULES:
        files: dict[str, str] = {}
        for name in names:
            candidates = index.candidates(name, rule)
            if len(candidates) != 1:
                break
            files[name] = candidates[0]
        else:
            return rule, files
    return None, {}


def _refuse(folder: Path, missing: Sequence[Line], column: str, tree: _Tree) -> None:
    """Raise InvalidArgument: how many files each rule would find, and names that none does."""
    names = list(dict.fromkeys(line.cells[column] for line in missing))
    hints = []
    outside = sum(tree.relative(name) is None for name in names)
    if outside:
        hints.append(f"{outside} of these names lead outside the folder")
    counts = {rule: sum(len(tree.index.candidates(name, rule)) == 1 for name in names) for rule in _SINGLE}
    tried = ", ".join(f"{rule} {count}" for rule, count in counts.items() if count)
    if tried:
        hints.append(f"of {len(names)} names, a rule would find: {tried}; no rule finds all")
    loosest = {name: [tree.index.candidates(name, rule) for rule in _LOOSEST] for name in names}
    several = {name: files[-1] for name, files in loosest.items() if len(files[-1]) > 1}
    if several:
        name, files = next(iter(several.items()))
        hints.append(f"several files fit {len(several)} of them, such as {name!r} ({', '.join(map(repr, files[:2]))})")
    lost = [name for name, files in loosest.items() if not any(files)]
    if lost:
        shown = ", ".join(map(repr, lost[:_SHOWN])) + (", …" if len(lost) > _SHOWN else "")
        hints.append(f"no rule (case, suffix, folder, backslashes, Unicode form) finds these {len(lost)}: {shown}")
    hints.append("correct the names, or delete the rows")
    refuse_lines(missing, f"{column} names no file in the folder {folder}", "; ".join(hints))
