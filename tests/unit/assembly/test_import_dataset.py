"""An import, from rows to the sealed dataset."""

from __future__ import annotations

import dataclasses
import io
import random
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genaug.assembly.assemble import assemble
from genaug.assembly.import_dataset import import_dataset
from genaug.assembly.import_plan import SourceRow
from genaug.client.importers import open_source
from genaug.schema.common import counts_of
from genaug.schema.datasets import DatasetVersion, MultiDisease, View
from genaug.schema.model import read
from genaug.schema.requests import AssembleRequest
from genaug.schema.run import ImportSpec, NearDuplicates, OnConflict, Reduction, Scenario
from genaug.shared.digests import sha256
from genaug.shared.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PermissionDenied
from genaug.shared.manifest import read_rows, rows_digest
from genaug.shared.store import Store
from genaug.vision.images.pixels import decode, pixel_sha256

LEARNT = "datasets/d/versions/real/rows.parquet"
SEALED = "sealed/datasets/d/rows.parquet"


@pytest.fixture
def source(sent):
    """36 images of 18 subjects and 3 classes."""
    return [sent(n, "abc"[n % 3], f"patient-{n // 2}", eye="left" if n % 2 else "right") for n in range(36)]


def all_rows(store: Store):
    return [*read_rows(store, LEARNT), *read_rows(store, SEALED)]


def test_every_image_lies_where_its_row_says(stores, source, run_import) -> None:
    store = stores("assembly")
    dataset = run_import(store, source)
    rows = all_rows(store)
    contents = {row.content_sha256: content for row, content in source}
    assert len(rows) == 36
    for row in rows:
        data = store.get(row.uri)
        assert data == contents[row.content_sha256]
        assert row.pixel_sha256 == pixel_sha256(decode(data))
        assert row.uri.startswith("sealed/images/" if row.split == "test" else "images/")
        assert row.attributes["eye"] in ("left", "right")
    assert {row.split for row in read_rows(store, SEALED)} == {"test"}
    assert {row.split for row in read_rows(store, LEARNT)} == {"train", "validation"}
    assert list(store.list("uploads/")) == []
    assert dataset.digest == rows_digest(rows)
    assert not dataset.own_split


def test_the_record_counts_what_the_rows_hold(stores, source, run_import) -> None:
    store = stores("assembly")
    dataset = run_import(store, source)
    rows = all_rows(store)
    for field, split in (("training", "train"), ("validation", "validation"), ("test", "test")):
        counts = counts_of(getattr(dataset, field))
        assert counts == Counter(sorted(row.class_name for row in rows if row.split == split))
    assert sum(count.count for side in (dataset.training, dataset.validation, dataset.test) for count in side) == 36
    assert (dataset.subjects, dataset.subjects_on_two_sides, dataset.joined_groups) == (18, 0, 0)
    assert (dataset.median_side, dataset.channels, dataset.dropped) == (40, 3, ())
    version = read(store, "datasets/d/versions/real/version.json", DatasetVersion)
    assert version.real == dataset.training
    assert version.digest == rows_digest(read_rows(store, LEARNT))


def test_what_learns_cannot_see_the_seal(stores, source, run_import) -> None:
    run_import(stores("assembly"), source)
    with pytest.raises(PermissionDenied):
        read_rows(stores("train"), SEALED)
    uri = read_rows(stores("assembly"), SEALED)[0].uri
    with pytest.raises(PermissionDenied):
        stores("finetune").get(uri)


def test_names_of_patients_stay_in_the_origins(stores, source, run_import) -> None:
    store = stores("assembly")
    run_import(store, source)
    for key, _ in [*store.list("datasets/"), *store.list("sealed/datasets/"), *store.list("restricted/sources/")]:
        assert b"patient-" not in store.get(key)
        assert b"original" not in store.get(key)
    origins = pq.read_table(io.BytesIO(store.get("restricted/origins/d.parquet"))).to_pylist()
    by_id = {row.image_id: (number, row) for number, (row, _) in enumerate(source)}
    for origin in origins:
        number, row = by_id[origin["image_id"]]
        assert (origin["row"], origin["source_name"], origin["subject"]) == (number, row.source_name, row.subject)


def test_order_and_the_installations_key_mean_nothing(stores, source, run_import) -> None:
    one, other = stores("assembly"), Store(_memory(), "assembly", url="memory://")
    shuffled = source[:]
    random.Random(5).shuffle(shuffled)
    first, second = run_import(one, source), run_import(other, shuffled)
    assert first.digest == second.digest
    assert {row.subject_id for row in all_rows(one)}.isdisjoint(row.subject_id for row in all_rows(other))


def _memory():
    from obstore.store import MemoryStore

    return MemoryStore()


def test_patients_who_share_a_photograph_stay_together(stores, sent, photograph, encode, run_import) -> None:
    rows = [sent(n, "ab"[n % 2], f"p{n // 2}") for n in range(40)]
    copies = [sent(encode(photograph(n), compress_level=1), "a", f"q{n}") for n in (0, 8, 16)]
    dataset = run_import(stores("assembly"), [*rows, *copies])
    found = {row.image_id: row for row in all_rows(stores("assembly"))}
    assert dataset.joined_groups == 3
    assert len(dataset.near_duplicates) == 3
    for pair in dataset.near_duplicates:
        one, other = found[pair.image_id], found[pair.other_image_id]
        assert (one.group_id, one.split, one.fold) == (other.group_id, other.split, other.fold)
        assert one.subject_id != other.subject_id
        assert pair.correlation >= 0.998


def test_what_is_dropped_is_listed_with_its_row(stores, sent, source, run_import) -> None:
    bad = [sent(b"no image", "a", "patient-0"), source[0]]
    dataset = run_import(stores("assembly"), [*source[:5], *bad, *source[5:]])
    assert [(image.row, image.reason) for image in dataset.dropped] == [(5, "UNREADABLE"), (6, "DUPLICATE")]
    assert len(all_rows(stores("assembly"))) == 36


def test_the_same_import_again_decodes_nothing(stores, source, run_import, monkeypatch) -> None:
    store = stores("assembly")
    first = run_import(store, source)
    monkeypatch.setattr("genaug.assembly.upload_decoder.opened", lambda data: pytest.fail("decoded again"))
    assert run_import(store, [(row, b"") for row, _ in reversed(source)]) == first
    with pytest.raises(AlreadyExists) as caught:
        run_import(store, source, seed=43)
    assert caught.value.reason == "DATASET_EXISTS"
    with pytest.raises(AlreadyExists):
        run_import(store, source[:-1])


class _Killed(BaseException):
    """Nothing in the code catches it: as final as kill -9."""


def test_an_import_killed_at_any_write_finishes_when_asked_again(stores, source, run_import, monkeypatch) -> None:
    """Every write in turn is the last one before the end."""
    expected = run_import(Store(_memory(), "assembly", url="memory://"), source).digest
    put = Store.put_new
    for allowed in (0, 1, 20, 36, 37, 38, 39, 40, 41, 60, 76, 77, 78):
        store = Store(_memory(), "assembly", url="memory://")
        written = []

        def dying(self, key: str, data: bytes, *, written=written, allowed=allowed) -> bool:
            if len(written) >= allowed:
                raise _Killed
            written.append(key)
            return put(self, key, data)

        monkeypatch.setattr(Store, "put_new", dying)
        with pytest.raises(_Killed):
            run_import(store, source)
        monkeypatch.setattr(Store, "put_new", put)
        assert run_import(store, source).digest == expected
        assert {row.uri for row in [*read_rows(store, LEARNT), *read_rows(store, SEALED)]} == {
            key for prefix in ("images/", "sealed/images/") for key, _ in store.list(prefix)
        }


def test_leftovers_of_another_import_are_not_mixed_in(stores, source, run_import, monkeypatch) -> None:
    store = stores("assembly")

    def dying(*_: object, **__: object) -> None:
        raise _Killed

    monkeypatch.setattr("genaug.assembly.import_dataset.write_version", dying)
    with pytest.raises(_Killed):
        run_import(store, source)
    monkeypatch.undo()
    with pytest.raises(FailedPrecondition) as caught:
        run_import(store, source, seed=1)
    assert caught.value.reason == "UNFINISHED_IMPORT"
    run_import(store, source)


def test_a_users_split_is_kept_when_it_is_sound(stores, sent, run_import) -> None:
    sides = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    rows = [sent(n, "ab"[n % 2], f"p{n // 2}", sides[n]) for n in range(20)]
    assert run_import(stores("assembly"), rows).own_split
    assert {row.image_id: row.split for row in all_rows(stores("assembly"))} == {r.image_id: r.split for r, _ in rows}


def test_a_users_split_that_leaks_is_refused(stores, sent, photograph, encode, run_import) -> None:
    sides = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    rows = [sent(n, "ab"[n % 2], f"p{n // 2}", sides[n]) for n in range(20)]
    copy = sent(encode(photograph(0), compress_level=1), "a", "q", "test")
    with pytest.raises(InvalidArgument) as caught:
        run_import(stores("assembly"), [*rows, copy])
    assert caught.value.reason == "PHOTOGRAPH_ON_TWO_SIDES"
    with pytest.raises(InvalidArgument) as caught:
        run_import(stores("assembly"), [*rows, sent(50, "a", "p0", "test")])
    assert caught.value.reason == "SUBJECT_ON_TWO_SIDES"
    assert list(stores("assembly").list("datasets/")) == []


def test_a_published_split_is_kept_and_conflicts_are_left_out(stores, sent, photograph, encode, run_import) -> None:
    sides = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    rows = [sent(n, "ab"[n % 2], f"p{n // 2}", sides[n]) for n in range(20)]
    mirrored = sent(encode(photograph(16)[:, ::-1]), "a", "q", "train")
    again = (dataclasses.replace(rows[18][0], split="train", subject=""), rows[18][1])
    more = [sent(50, "b", "p6", "train"), mirrored, again]
    dataset = run_import(stores("assembly"), [*more, *rows], on_conflict=OnConflict.DROP_TRAINING)
    assert [(image.row, image.reason) for image in dataset.dropped] == [
        (0, "CONFLICT"),
        (1, "CONFLICT"),
        (2, "CONFLICT"),
    ]
    assert {row.image_id: row.split for row in all_rows(stores("assembly"))} == {r.image_id: r.split for r, _ in rows}
    assert dataset.near_duplicates == ()


def test_near_duplicates_are_joined_or_listed_or_not_looked_for(stores, sent, photograph, encode, run_import) -> None:
    rows = [sent(n, "ab"[n % 2], f"p{n // 2}") for n in range(40)]
    copies = [sent(encode(photograph(n)[::-1].copy()), "a", f"q{n}") for n in (0, 8, 16)]
    counts, sources = {}, set()
    for policy in NearDuplicates:
        dataset = run_import(stores("assembly"), [*rows, *copies], dataset=policy.name.lower(), near_duplicates=policy)
        counts[policy.name] = len(dataset.near_duplicates), dataset.joined_groups
        sources.add(str(stores("assembly").get_json(f"restricted/sources/{policy.name.lower()}.json")))
    assert counts == {"JOIN": (3, 3), "REPORT": (3, 0), "OFF": (0, 0)}
    assert len(sources) == 3


def test_look_alike_images_are_said_and_named_where_they_leave_too_few_subjects(
    stores, sent, photograph, encode, run_import
) -> None:
    rows = [sent(n, "ab"[n % 2], f"p{n // 2}") for n in range(40)]
    crowd = [sent(encode(photograph(99), compress_level=n % 9 + 1) + bytes(n), "a", f"q{n}") for n in range(12)]
    (note,) = run_import(stores("assembly"), [*rows, *crowd]).notes
    assert "12 of 52 images" in note
    assert "--near-duplicates report" in note
    assert run_import(stores("assembly"), rows, dataset="e").notes == ()
    with pytest.raises(FailedPrecondition, match="12 of 12 images are near-identical") as caught:
        run_import(stores("assembly"), crowd, dataset="f")
    assert caught.value.reason == "TOO_FEW_SUBJECTS"


def test_a_class_without_a_side_is_refused(stores, sent, run_import) -> None:
    rows = [sent(n, "abc"[n % 3], f"p{n}") for n in range(30)]
    rare = [sent(90 + n, "rare", f"r{n // 2}") for n in range(4)]
    with pytest.raises(FailedPrecondition, match="class rare has 2 subjects") as caught:
        run_import(stores("assembly"), [*rows, *rare])
    assert caught.value.reason == "TOO_FEW_SUBJECTS"
    sides = ["train", "validation", "test", "train"]
    own = [sent(n, "ab"[n >= 12], f"p{n}", sides[n % 4] if n < 12 else sides[n % 2]) for n in range(24)]
    with pytest.raises(FailedPrecondition, match="class b has 12 subjects and no test images"):
        run_import(stores("assembly"), own)
    assert list(stores("assembly").list("datasets/")) == []


def test_nothing_is_refused_by_name(stores) -> None:
    with pytest.raises(InvalidArgument) as caught:
        list(import_dataset("d", ImportSpec(format="csv"), [], stores("assembly")))
    assert caught.value.reason == "NO_IMAGES"


def bitmap(number: int) -> bytes:
    """A small image whose bytes depend on no compression library."""
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)).save(sink, "BMP")
    return sink.getvalue()


def test_digests_and_names_are_those_of_earlier_releases(stores, sent, run_import) -> None:
    """Another digest would import, assemble and train everything anew."""
    store = stores("assembly")
    rows = [sent(bitmap(n), "abc"[n % 3], f"p{n // 2}", eye="left" if n % 2 else "right") for n in range(36)]
    assert run_import(store, rows).digest == "babc0804070048c6a376a9aeb973d86a46cdbb385669a464a8c421a8b6944dd2"
    source = store.get_json("restricted/sources/d.json")
    assert source == {"source": "bbfe4e4661f0b55126bc4c7835f6685a6d01c52059f88145e77512e85879461f"}
    view = View(classes=("a", "b"), multi_disease=MultiDisease.EXCLUDE, fold=2)
    request = AssembleRequest(parent="datasets/d", view=view, scenario=Scenario(reduction=Reduction.RANDOM), seed=3)
    version = assemble(request, store)
    assert version.name == "datasets/d/versions/bdcef6ef173fb71ba4509d9c522b1296"
    assert version.digest == "59edb364d88782ef43749828fc35006b32174ca95670c4e4a83296e8f25b7490"
    doses = AssembleRequest(
        parent="datasets/d",
        view=View(fold=1),
        scenario=Scenario(synthetic=1, transformed=0.5),
        augmented_classes=("b",),
        seed=7,
    )
    assert assemble(doses, store).name == "datasets/d/versions/cf3df0154d52aee6b238d629cc0e0385"


def test_the_quickstarts_digits_are_the_version_that_they_were(stores, run_import) -> None:
    """From the importer to the seal."""
    spec = ImportSpec(format="digits", keep=dict.fromkeys("13589", 80), split=(0.5, 0.1, 0.4))
    rows = []
    for image in open_source(spec).images:
        content = image.read()
        rows.append((SourceRow(sha256(content), image.name, image.class_name), content))
    run_import(stores("assembly"), rows, split=spec.split)
    version = read(stores("assembly"), "datasets/d/versions/real/version.json", DatasetVersion)
    assert version.digest == "ce42555e56a9453cfcb9b376e45802933154286e8e3194342e787b6678c2e97a"
