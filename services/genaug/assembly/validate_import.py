"""Dry run of an import: the dataset as it would be and its description, without storing anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from genaug.assembly.datasets import dataset_key, read_or_none, source_key
from genaug.assembly.describe.describe import describe
from genaug.assembly.import_dataset import Upload, receive, seal_import
from genaug.assembly.import_plan import progress, source_digest
from genaug.assembly.pseudonyms import Pseudonyms
from genaug.assembly.record import SourceClaim
from genaug.assembly.upload_decoder import UploadDecoder
from genaug.schema.common import Progress
from genaug.schema.datasets import Dataset, DatasetDescription, PassedOver
from genaug.schema.run import ImportSpec
from genaug.shared.store import Store


def validate_import(
    dataset: str,
    spec: ImportSpec,
    batches: Iterable[Sequence[Upload]],
    store: Store,
    *,
    passed_over: Sequence[PassedOver] = (),
) -> Iterator[Progress | Dataset | DatasetDescription]:
    """Check an import; yield progress, the dataset as it would be, and its description.

    The dataset has no time of creation and no provenance. Its last note says if the name is taken.

    Args:
        dataset: Id of the dataset.
        spec: Format and split.
        batches: Rows with their contents.
        store: The store, as "assembly", which is only read.
        passed_over: Files that the client's importer did not read, for the record.

    Raises:
        InvalidArgument: as `import_dataset`.
        FailedPrecondition: a content is neither sent nor held, or there are too few subjects.
    """
    with UploadDecoder(store, validate_only=True) as decoder:
        rows = yield from receive(spec, batches, decoder)
    yield progress("grouping", 0, len(rows))
    sealed = seal_import(dataset, spec, rows, decoder, Pseudonyms(None), passed_over=passed_over)
    notes = (*sealed.record.notes, *_name_notes(store, dataset, source_digest(spec, rows)))
    record = sealed.record.model_copy(update={"create_time": "", "notes": notes})
    yield record
    facts = {
        row.image_id: image.facts
        for row, image in zip(sealed.manifest, sealed.images, strict=True)
        if image.facts is not None
    }
    open_rows = [row for row in sealed.manifest if row.split != "test"]
    test = [(row.class_name, row.subject_id) for row in sealed.manifest if row.split == "test"]
    yield describe(record, open_rows, test, facts)


def _name_notes(store: Store, dataset: str, source: str) -> Iterator[str]:
    """Yield notes on a dataset or import that holds this name already."""
    claimed = read_or_none(store, source_key(dataset), SourceClaim)
    same = claimed is not None and claimed.source == source
    if store.exists(dataset_key(dataset)):
        if same:
            yield f"datasets/{dataset} exists with this content; the import would find it"
        else:
            yield (
                f"datasets/{dataset} exists with other images, classes, subjects or options; the import would be "
                "refused: choose another name, or delete it first"
            )
    elif claimed is not None and not same:
        yield (
            f"an unfinished import of other content holds the name datasets/{dataset}; the import would be refused: "
            "choose another name, or delete it first"
        )
