"""HTML pages that open offline: one file each, with the style sheet and figures inside."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str, folder: str) -> Environment:
    """Return the templates in `folder` of `package`, which may include `style.css.j2`.

    Values are escaped; an undefined name is an error.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("genaug.shared", "pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
