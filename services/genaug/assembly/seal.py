"""The seal: side of the split and fold of each group of subjects, decided once for the whole source.

Groups are placed by iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011): the rarest class first, each of its
groups to the side that still wants most of it. The result depends on the images, their classes and the seed alone:
neither on the rows' order nor on the installation's key.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from genaug.shared.digests import seed_of
from genaug.shared.errors import FailedPrecondition
from genaug.shared.manifest import Split

SIDES: tuple[Split, ...] = get_args(Split)

# Every group holds it, so that sides are balanced, and filled, over all classes too. No class has an empty name.
_ALL = ""
_MAX_NAMED = 5


@dataclass(frozen=True)
class Place:
    """Side, fold and group of an image."""

    split: Split
    fold: int
    group_id: str


def join(images: Mapping[str, Iterable[str]], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group images that share a subject or a photograph, directly or through others.

    Args:
        images: The subjects of each image id; none when the image is its own subject.
        pairs: Image ids that show the same photograph.

    Returns:
        The group of each image: the first, in order of their names, of its image ids.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for image, subjects in images.items():
        for subject in subjects:
            parent[root(f"subject {subject}")] = root(f"image {image}")
    for image, other in pairs:
        parent[root(f"image {image}")] = root(f"image {other}")
    first: dict[str, str] = {}
    for image in sorted(images):
        first.setdefault(root(f"image {image}"), image)
    return {image: first[root(f"image {image}")] for image in images}


def seal(
    classes: Mapping[str, str],
    groups: Mapping[str, str],
    *,
    shares: Sequence[float],
    folds: int,
    seed: int,
    own: Mapping[str, Split] | None = None,
) -> dict[str, Place]:
    """Place every image.

    Args:
        classes: Class of each image id.
        groups: Group of each image id, see `join`.
        shares: Shares of training, validation and test.
        folds: Number of folds; each is balanced within every side.
        seed: Seed of the split.
        own: The user's own side of each image, already checked by group; folds alone are placed then.

    Raises:
        FailedPrecondition: fewer groups than sides.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for image, group in groups.items():
        counts[group][classes[image]] += 1
    if own is None:
        if len(counts) < len(SIDES):
            raise FailedPrecondition(
                f"{len(counts)} subjects cannot be split into training, validation and test; import more of them",
                reason="TOO_FEW_SUBJECTS",
            )
        sides = {group: SIDES[side] for group, side in allot(counts, shares, seed=seed_of("split", seed)).items()}
    else:
        sides = {group: own[image] for image, group in groups.items()}
    within = {
        group: Counter({f"{sides[group]} {name}": count for name, count in classes_of_group.items()})
        for group, classes_of_group in counts.items()
    }
    fold = allot(within, [1 / folds] * folds, seed=seed_of("fold", seed))
    return {image: Place(sides[group], fold[group], group) for image, group in groups.items()}


def check_classes(classes: Mapping[str, str], places: Mapping[str, Place]) -> None:
    """Check that every class has training, validation and test images.

    Args:
        classes: Class of each image id.
        places: Place of each image id.

    Raises:
        FailedPrecondition: a class lacks images on a side, with the sides and the number of its subjects.
    """
    sides: dict[str, set[str]] = defaultdict(set)
    groups: dict[str, set[str]] = defaultdict(set)
    for image, name in classes.items():
        sides[name].add(places[image].split)
        groups[name].add(places[image].group_id)
    short = [
        f"class {name} has {len(groups[name])} {'subject' if len(groups[name]) == 1 else 'subjects'} and no "
        f"{' or '.join(s for s in SIDES if s not in sides[name])} "
        "images"
        for name in sorted(sides)
        if len(sides[name]) < len(SIDES)
    ]
    if short:
        more = f" and {len(short) - _MAX_NAMED} more classes" if len(short) > _MAX_NAMED else ""
        raise FailedPrecondition(
            f"{'; '.join(short[:_MAX_NAMED])}{more}: every class needs one subject on each side; import more of "
            "them, or merge or leave out the class",
            reason="TOO_FEW_SUBJECTS",
        )


def allot(groups: Mapping[str, Mapping[str, int]], shares: Sequence[float], *, seed: int) -> dict[str, int]:
    """Distribute groups over sides so that each class is divided by `shares` as well as whole groups allow.

    A class that is in at least as many groups as there are sides gets rows on every side, wherever moving single groups
    can bring that about (always, when each group has one class).

    Args:
        groups: Images per class of each group.
        shares: Share of each side; they add up to 1.
        seed: Decides among equals.

    Returns:
        The side of each group: an index into `shares`.
    """
    allotment = _Allotment(groups, shares)
    for name in allotment.classes:
        smallest = min(shares) * allotment.total[name]
        waiting = [group for group in allotment.members[name] if group not in allotment.side]
        # A group too large for the smallest side goes while there is still choice; all others in random order, since
        # an order by size would fill the large side with the large groups.
        weight = {group: allotment.groups[group][name] for group in waiting}
        waiting.sort(key=lambda g: (-weight[g] if weight[g] > smallest else 0, seed_of(seed, g)))
        for place, group in enumerate(waiting):
            allotment.put(group, allotment.best(name, left=len(waiting) - place))
    allotment.fill()
    return allotment.side


class _Allotment:
    """Sides of the groups placed so far, and the images that each side still lacks."""

    def __init__(self, groups: Mapping[str, Mapping[str, int]], shares: Sequence[float]) -> None:
        self.groups = {group: {**counts, _ALL: sum(counts.values())} for group, counts in groups.items()}
        self.side: dict[str, int] = {}
        self.total: Counter[str] = Counter()
        self.members: dict[str, list[str]] = defaultdict(list)
        for group in sorted(groups):
            for name, count in self.groups[group].items():
                self.total[name] += count
                self.members[name].append(group)
        self.classes = sorted(self.members, key=lambda name: (name == _ALL, len(self.members[name]), name))
        """Rarest first, counted in groups; all together last."""
        self._sides = range(len(shares))
        self._lacks = [{name: share * total for name, total in self.total.items()} for share in shares]
        self._held: list[Counter[str]] = [Counter() for _ in shares]

    def best(self, name: str, *, left: int) -> int:
        """The side for the next of the `left` groups of a class that have none yet."""
        empty = [side for side in self._sides if not self._held[side][name]]
        # The last groups are owed to sides that would otherwise go without. Among equals the last side: test, which
        # a class can less well do without than validation.
        sides = empty if len(empty) > 0 and left <= len(empty) else self._sides
        return max(sides, key=lambda side: (self._lacks[side][name], self._lacks[side][_ALL], side))

    def put(self, group: str, side: int) -> None:
        """Place a group, or move it."""
        before = self.side.get(group)
        self.side[group] = side
        for name, count in self.groups[group].items():
            self._lacks[side][name] -= count
            self._held[side][name] += 1
            if before is not None:
                self._lacks[before][name] += count
                self._held[before][name] -= 1

    def fill(self) -> None:
        """Give each class in enough groups one on every side, where moving it takes no other class away."""
        for name in self.classes:
            for side in self._sides:
                if not self._held[side][name] and len(self.members[name]) >= len(self._sides):
                    movable = [group for group in self.members[name] if self._can_leave(group)]
                    if movable:
                        self.put(min(movable, key=lambda group: (self.groups[group][_ALL], group)), side)

    def _can_leave(self, group: str) -> bool:
        side = self.side[group]
        return all(
            self._held[side][name] > 1 or len(self.members[name]) < len(self._sides) for name in self.groups[group]
        )
