"""Importer "folder": one folder per class, with images at any depth below it, or such folders in one per side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from genaug.client.importers import SourceImage, SourceReport
from genaug.client.importers.files import ImageFile, find_images, note_patient_ids
from genaug.client.importers.sides import SIDES
from genaug.client.importers.splits import check_sides, side_in_name
from genaug.client.importers.subjects import match_subjects
from genaug.client.importers.table import check_folder
from genaug.schema.run import ImportSpec
from genaug.shared.errors import InvalidArgument

_SHOWN = 3
# Names of folders for images that nobody has labelled; FiftyOne's is the first.
_UNLABELED = frozenset({"_unlabeled", "unlabeled", "unlabelled"})


def read(spec: ImportSpec, report: SourceReport) -> Iterator[SourceImage]:
    """Yield the images below each class's folder, in the order of their paths.

    First-level folders that are all named train, val, test or the like are the sides of a split, with the classes below
    them. Subjects are those of `spec.subject_regex`; without it, the PatientID of DICOM files.

    Raises:
        InvalidArgument: the folder is missing or holds no images, images lie beside the class folders, a split has a
            side too few, folders of a split stand beside others or below the classes, or the regular expression is
            wrong, has no group, or does not match every file's name.
        FailedPrecondition: there are DICOM files, and pydicom is not installed.
    """
    root = check_folder(spec.images)
    images = find_images(root, spec, report)
    if not images:
        passed_over = report.passed_over_text()
        raise InvalidArgument(
            f"images: no images below {root}; it needs a folder per class{f' ({passed_over})' if passed_over else ''}",
            reason="NO_IMAGES",
        )
    paths = [path.relative_to(root) for path, _ in images]
    classes, sides = class_folders(paths, root)
    if len(set(classes)) == 1:
        report.notes.append(f"there is one class, {classes[0]}; if its folders are the classes, give it as images")
    sides = check_sides(sides, spec, report)
    subjects = find_subjects(images, spec, report)
    for path, (_, file), class_name, side, subject in zip(paths, images, classes, sides, subjects, strict=True):
        yield SourceImage(path.as_posix(), class_name, subject, side, {}, file.read)


def class_folders(paths: Sequence[Path], root: Path) -> tuple[list[str], list[str]]:
    """Return the class and the side, empty without a split, of each path by its folders.

    Args:
        paths: Relative to `root`.
        root: For the errors.

    Raises:
        InvalidArgument: the folders are not one per class, or one per side with one per class in each.
    """
    sides = _sides({path.parts[0] for path in paths if len(path.parts) > 1}, root)
    split, depth = sorted(sides), 1 if sides else 0
    misplaced = [path for path in paths if len(path.parts) < depth + 2]
    if misplaced:
        where = _listed(sorted({str(path.parent) for path in misplaced})) if split else f"{root} itself"
        raise InvalidArgument(
            f"images: {len(misplaced)} images lie in {where}, in no class's folder (such as {misplaced[0].name}); "
            f"move each into its class's folder{', or images without a class away' if split else ''}",
            reason="NO_CLASS",
        )
    if not split:
        _refuse_sides_below(paths, root)
    classes = [path.parts[depth] for path in paths]
    if unlabeled := sorted({name for name in classes if name.lower() in _UNLABELED}):
        raise InvalidArgument(
            f"images: those in {_listed(unlabeled)} have no class; move the folder away, or rename it if it is one",
            reason="NO_CLASS",
        )
    return classes, [sides.get(path.parts[0], "") for path in paths]


def _sides(tops: set[str], root: Path) -> dict[str, str]:
    """Return the side of each first-level folder; none if these are not sides of a split.

    Folders such as train2017 and test_images are sides too, if all others are, and not one side alone.
    """
    sides = {top: side_in_name(top) for top in tops}
    exact = sorted(top for top in tops if top.lower() in SIDES)
    others = sorted(top for top, side in sides.items() if not side)
    if exact and others:
        raise InvalidArgument(
            f"images: {_listed(exact)} in {root} are sides of a split, {_listed(others)} are not; have folders of "
            "sides alone, with a folder per class in each, or folders of classes alone",
            reason="MIXED_FOLDERS",
        )
    return sides if exact or (not others and len(set(sides.values())) > 1) else {}


def find_subjects(images: Sequence[tuple[Path, ImageFile]], spec: ImportSpec, report: SourceReport) -> list[str]:
    """Return the subject of each image, by its file's name or its DICOM header; empty where neither has one.

    Raises:
        InvalidArgument: the regular expression is wrong, has no group, or does not match every file's name.
    """
    if spec.subject_regex:
        return match_subjects([path.name for path, _ in images], spec, report, what="file names")
    files = [file for _, file in images]
    note_patient_ids(files, report)
    return [file.subject for file in files]


def _refuse_sides_below(paths: Sequence[Path], root: Path) -> None:
    below = {path.parts[1].lower() for path in paths if len(path.parts) > 2}
    split = sorted(name for name in below if name in SIDES)
    if len({SIDES[name] for name in split}) < 2:
        return
    tops = sorted({path.parts[0] for path in paths})
    mend = (
        f"give the folder {root / tops[0]}"
        if len(tops) == 1
        else f"put the sides first ({split[0]}/{tops[0]}), or give a table (--format csv --split-column)"
    )
    raise InvalidArgument(
        f"images: {_listed(split)} below {_listed(tops)} are sides of a split; {mend}", reason="SPLIT_BELOW_CLASSES"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
