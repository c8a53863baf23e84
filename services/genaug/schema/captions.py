"""Captions of the classes for text-to-image generators. Sets are versioned files in `prompts/`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from genaug.schema.sampling import MAX_PROMPT
from genaug.shared.errors import InvalidArgument

_FILE = re.compile(r"(?P<name>[a-z-]+)-(?P<version>\d+)\.json")


@dataclass(frozen=True)
class Captions:
    """A caption for each class."""

    prompts: str
    """The set with its version, "generic@1"; "own" where the run file has all of them."""
    by_class: Mapping[str, str]


def prompt_sets() -> dict[str, list[int]]:
    """The versions of each set, ascending."""
    found: dict[str, list[int]] = {}
    for file in files("genaug.schema").joinpath("prompts").iterdir():
        if match := _FILE.fullmatch(file.name):
            found.setdefault(match["name"], []).append(int(match["version"]))
    return {name: sorted(versions) for name, versions in sorted(found.items())}


def captions_of(prompts: str, classes: Sequence[str], *, own: Mapping[str, str]) -> Captions:
    """The captions of `classes`.

    Args:
        prompts: A set, "generic" for its newest version or "generic@1".
        classes: The generator's.
        own: Captions by class, instead of the set's.

    Raises:
        InvalidArgument: unknown set or version, a class without a caption, or an unusable caption.
    """
    problems = list(caption_problems(prompts, classes, own=own))
    if problems:
        field, text = problems[0]
        path = f"generator.stable_diffusion.{field}"
        raise InvalidArgument(f"{path}: {text}", reason="BAD_CAPTIONS", path=path)
    missing = [name for name in classes if name not in own]
    if not missing:
        return Captions("own", {name: own[name] for name in classes})
    name, version, known, other = _set_of(prompts)
    found = {entry: known.get(entry) or other.replace("{class}", entry) for entry in missing}
    return Captions(f"{name}@{version}", {entry: own.get(entry) or found[entry] for entry in classes})


def caption_problems(prompts: str, classes: Sequence[str], *, own: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Reasons why `captions_of` would refuse: (field, problem)."""
    for name, text in own.items():
        if name not in classes:
            yield "captions", f"{name!r} is none of the classes that are drawn: {', '.join(classes)}"
        elif not text.strip() or len(text) > MAX_PROMPT:
            yield "captions", f"the caption of {name!r} is empty, or longer than {MAX_PROMPT} characters"
    missing = [name for name in classes if name not in own]
    if not missing:
        return
    name, _, version = prompts.partition("@")
    sets = prompt_sets()
    if name not in sets:
        yield "prompts", f"{prompts!r} is none of {', '.join(sets)}"
    elif version and (not version.isdecimal() or int(version) not in sets[name]):
        yield "prompts", f"{prompts!r}: versions of {name} are {', '.join(map(str, sets[name]))}"
    else:
        name, number, known, other = _set_of(prompts)
        unknown = [entry for entry in missing if entry not in known and not other]
        if unknown:
            yield (
                "captions",
                f"{name}@{number} has no caption of class {', '.join(unknown)}; it has {', '.join(known)}: give "
                "captions of your own for the others, or take prompts: generic",
            )


def _set_of(prompts: str) -> tuple[str, int, Mapping[str, str], str]:
    """Name, version, captions by class, and the template of other classes, of an existing set."""
    name, _, version = prompts.partition("@")
    number = int(version) if version else prompt_sets()[name][-1]
    text = files("genaug.schema").joinpath("prompts", f"{name}-{number}.json").read_text("utf-8")
    content = json.loads(text)
    return name, number, content.get("classes", {}), content.get("other", "")
