"""The split: by group, stratified, seeded, and the same whatever the order."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genaug.assembly.seal import SIDES, allot, join, seal
from genaug.shared.errors import FailedPrecondition

SHARES = (0.7, 0.15, 0.15)

one_class_groups = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6)), min_size=3, max_size=60).map(
    lambda found: {f"g{n}": {name: size} for n, (name, size) in enumerate(found)}
)
any_groups = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=1), min_size=3, max_size=40)


def as_images(groups: dict[str, dict[str, int]]) -> tuple[dict[str, str], dict[str, str]]:
    """Class and group of each image."""
    classes = {
        f"{group}-{name}-{n}": name
        for group, counts in groups.items()
        for name, count in counts.items()
        for n in range(count)
    }
    return classes, {image: image.split("-")[0] for image in classes}


@given(groups=one_class_groups, seed=st.integers(0, 2**40))
@settings(max_examples=150)
def test_a_class_in_three_groups_is_on_every_side(groups: dict[str, dict[str, int]], seed: int) -> None:
    side = allot(groups, SHARES, seed=seed)
    sides: dict[str, set[int]] = defaultdict(set)
    members: Counter[str] = Counter()
    for group, counts in groups.items():
        for name in counts:
            sides[name].add(side[group])
            members[name] += 1
    assert set(side.values()) == {0, 1, 2}
    for name, count in members.items():
        assert len(sides[name]) == min(count, 3)


@given(found=any_groups, seed=st.integers(0, 1000), folds=st.integers(2, 6))
@settings(max_examples=60)
def test_a_group_is_whole_and_the_order_of_rows_means_nothing(
    found: list[dict[str, int]], seed: int, folds: int
) -> None:
    classes, groups = as_images({f"g{n}": counts for n, counts in enumerate(found)})
    places = seal(classes, groups, shares=SHARES, folds=folds, seed=seed)
    for group in set(groups.values()):
        assert len({(places[i].split, places[i].fold) for i in groups if groups[i] == group}) == 1
    shuffled = list(classes)
    random.Random(seed).shuffle(shuffled)
    again = seal(
        {i: classes[i] for i in shuffled}, {i: groups[i] for i in shuffled}, shares=SHARES, folds=folds, seed=seed
    )
    assert again == places
    assert {place.fold for place in places.values()} <= set(range(folds))


def test_shares_are_met_in_every_class() -> None:
    rng = random.Random(0)
    groups = {f"g{n}": Counter(rng.choices("aaaaabbbc", k=rng.choice((1, 2)))) for n in range(2000)}
    classes, membership = as_images({group: dict(counts) for group, counts in groups.items()})
    places = seal(classes, membership, shares=SHARES, folds=5, seed=42)
    for name in "abc":
        found = Counter(places[image].split for image in classes if classes[image] == name)
        for side, share in zip(SIDES, SHARES, strict=True):
            assert abs(found[side] - share * found.total()) <= 2
        for side in SIDES:
            folds = Counter(places[i].fold for i in classes if classes[i] == name and places[i].split == side)
            assert max(folds.values()) - min(folds.values()) <= 4


def test_large_and_small_groups_are_on_all_sides_alike() -> None:
    groups = {f"g{n}": {"a": 1 + n % 2} for n in range(3000)}
    side = allot(groups, SHARES, seed=7)
    means = [sum(groups[g]["a"] for g in groups if side[g] == s) / sum(side[g] == s for g in groups) for s in range(3)]
    assert max(means) - min(means) < 0.12


def test_another_seed_is_another_split() -> None:
    classes, groups = as_images({f"g{n}": {"a": 1} for n in range(100)})
    one, two = (seal(classes, groups, shares=SHARES, folds=5, seed=seed) for seed in (1, 2))
    assert one != two


def test_a_giant_group_goes_where_there_is_room() -> None:
    groups = {"giant": {"a": 60}, **{f"g{n}": {"a": 1} for n in range(40)}}
    for seed in range(20):
        assert allot(groups, SHARES, seed=seed)["giant"] == 0


def test_fewer_subjects_than_sides_are_refused() -> None:
    with pytest.raises(FailedPrecondition, match="2 subjects") as caught:
        seal({"i": "a", "j": "a"}, {"i": "i", "j": "j"}, shares=SHARES, folds=5, seed=0)
    assert caught.value.reason == "TOO_FEW_SUBJECTS"


@given(
    subjects=st.lists(st.sampled_from(["", "p", "q", "r", "s"]), min_size=1, max_size=12),
    pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6),
)
def test_joined_images_share_a_group_and_no_others(subjects: list[str], pairs: list[tuple[int, int]]) -> None:
    images = {f"i{n:02d}": [name] if name else [] for n, name in enumerate(subjects)}
    linked = [(f"i{a:02d}", f"i{b:02d}") for a, b in pairs if max(a, b) < len(subjects)]
    groups = join(images, linked)
    # The closure, by brute force.
    same = {(i, j) for i in images for j in images if i == j or set(images[i]) & set(images[j])}
    same |= set(linked) | {(j, i) for i, j in linked}
    for k in images:
        same |= {(i, j) for i in images for j in images if (i, k) in same and (k, j) in same}
    for i in images:
        assert groups[i] == min(j for j in images if (i, j) in same)
