"""Captions: what a stable-diffusion generator is told of each class. Sets are versioned files in `prompts/`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from genaug.shared.errors import InvalidArgument

_FILE = re.compile(r"(?P<name>[a-z-]+)-(?P<version>\d+)\.json")
# CLIP reads 77 tokens; what is much longer is no caption.
_LONGEST = 1000


@dataclass(frozen=True)
class Captions:
    """What is said of each class."""

    prompts: str
    """The set with its version, "generic@1"; "own" where the run file says all of it."""
    by_class: Mapping[str, str]


def prompt_sets() -> dict[str, list[int]]:
    """The versions of each set, ascending."""
    found: dict[str, list[int]] = {}
    for file in files("genaug.generation").joinpath("prompts").iterdir():
        if match := _FILE.fullmatch(file.name):
            found.setdefault(match["name"], []).append(int(match["version"]))
    return {name: sorted(versions) for name, versions in sorted(found.items())}


def captions_of(prompts: str, classes: Sequence[str], *, own: Mapping[str, str]) -> Captions:
    """The captions of `classes`.

    Args:
        prompts: A set, "generic" for its newest version or "generic@1".
        classes: The generator's.
        own: Captions by class that go before the set's.

    Raises:
        InvalidArgument: there is no such set or version, a class has no caption in it, or a caption is unusable.
    """
    for name in own:
        if name not in classes:
            raise _fail(f"captions[{name!r}]", f"is no class of this generator, which has {', '.join(classes)}")
        if not own[name].strip() or len(own[name]) > _LONGEST:
            raise _fail(f"captions[{name!r}]", f"is empty, or longer than {_LONGEST} characters")
    missing = [name for name in classes if name not in own]
    if not missing:
        return Captions("own", {name: own[name] for name in classes})
    name, _, version = prompts.partition("@")
    sets = prompt_sets()
    if name not in sets:
        raise _fail("prompts", f"{prompts!r} is none of {', '.join(sets)}")
    if version and (not version.isdecimal() or int(version) not in sets[name]):
        raise _fail("prompts", f"{prompts!r}: versions of {name} are {', '.join(map(str, sets[name]))}")
    chosen = int(version) if version else sets[name][-1]
    text = files("genaug.generation").joinpath("prompts", f"{name}-{chosen}.json").read_text("utf-8")
    content = json.loads(text)
    known, other = content.get("classes", {}), content.get("other", "")
    unsaid = [one for one in missing if one not in known and not other]
    if unsaid:
        raise _fail(
            "captions",
            f"{name}@{chosen} says nothing of class {', '.join(unsaid)}; it knows {', '.join(known)}: give captions of "
            "your own for the others, or take prompts: generic",
        )
    found = {one: known.get(one) or other.replace("{class}", one) for one in missing}
    return Captions(f"{name}@{chosen}", {one: own.get(one) or found[one] for one in classes})


def _fail(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"generator.{path}: {problem}", reason="BAD_CAPTIONS", path=f"generator.{path}")
