"""Layout "folders": <split>/<class>/<image id>.<suffix>, as torchvision's ImageFolder reads each split."""

from __future__ import annotations

from urllib.parse import quote

from genaug.assembly.exports.layout import ExportLayout
from genaug.shared.errors import InvalidArgument

_LONGEST = 200


def class_folder(class_name: str) -> str:
    """Return a folder name for a class; `urllib.parse.unquote` inverts it.

    Letters, digits, blanks and "_.-~" stay; other characters are percent-encoded, and so are dots at either end.

    Raises:
        InvalidArgument: the name would be longer than file systems allow.
    """
    name = quote(class_name, safe=" ")
    for strip in (str.lstrip, str.rstrip):
        inner = strip(name, ".")
        dots = "%2E" * (len(name) - len(inner))
        name = dots + inner if strip is str.lstrip else inner + dots
    if len(name) > _LONGEST:
        raise InvalidArgument(
            f"class {class_name[:40]!r}…: too long for a folder's name; export with the layout csv",
            reason="CLASS_NOT_A_FOLDER",
        )
    return name


LAYOUT = ExportLayout(folder=lambda row: f"{row.split}/{class_folder(row.class_name)}", tables=lambda _: ())
