"""Write a chart's README.md from the comments of its values.yaml: `# -- text` says what the next key is for.

Usage: python helm/document.py helm/genaug
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>.*))?$")


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (path, default, comment) of every key that has a comment, and of every leaf."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.strip().startswith("#"):
            said = line.strip().removeprefix("#").strip()
            comment = [said.removeprefix("-- ")] if said.startswith("-- ") else [*comment, said]
            continue
        match = _KEY.match(line)
        if match is None:
            comment = []
            continue
        indent = len(match["indent"])
        path = [(depth, key) for depth, key in path if depth < indent] + [(indent, match["key"])]
        below = next((one for one in lines[number + 1 :] if one.strip() and not one.strip().startswith("#")), "")
        leaf = len(below) - len(below.lstrip()) <= indent
        if comment or leaf:
            yield ".".join(key for _, key in path), match["value"] or "", " ".join(comment)
        comment = []


def main(folder: Path) -> None:
    """Write `folder`/README.md."""
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    table = "\n".join(
        f"| `{path}` | {f'`{default}`' if default else ''} | {comment.replace('|', chr(92) + '|')} |"
        for path, default, comment in rows((folder / "values.yaml").read_text())
    )
    (folder / "README.md").write_text(
        f"# The {chart['name']} chart {chart['version']}\n\n"
        "Written by `make chart` from the comments of `values.yaml`. How to install and look after it: "
        "[docs/operations.md](../../docs/operations.md).\n\n"
        f"| value | default | what it is for |\n|---|---|---|\n{table}\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
