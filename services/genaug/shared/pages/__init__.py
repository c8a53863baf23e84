"""Pages that open offline: one HTML file each, with the house's style sheet and figures inside it."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str, folder: str) -> Environment:
    """Templates in `folder` of `package`, which may include `style.css.j2`.

    Everything that comes from outside is escaped; a name that is not there is an error.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("genaug.shared", "pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
