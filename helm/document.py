"""Write the generated parts of a chart: the settings in values.schema.json, and README.md.

The settings come from `genaug.shared.settings`; the other values are documented in values.yaml, where `# -- text`
describes the next key.

Usage: python helm/document.py helm/genaug
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from genaug.shared.settings import Settings

Json = dict[str, Any]
Row = tuple[str, str, str]

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>.*))?$")
_CONFIG = "config"
# Settings and sections that genaug.computedConfig (templates/_helpers.tpl) always computes, so that `config` must not
# contradict them; README.md leaves them out.
COMPUTED = (
    "home",
    "endpoint",
    "database",
    "auth.tokens_file",
    "tls.certificate",
    "tls.key",
    "endpoints",
    "server.address",
    "server.health_address",
    "server.metrics_address",
    "server.grace_s",
    "jobs.runner",
    "jobs.template",
)


def rows(text: str) -> Iterator[Row]:
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


def settings_schema() -> Json:
    """Return the settings as one JSON schema without references; credentials, which come from Secrets, are left out."""
    schema = Settings.model_json_schema()
    definitions = schema.pop("$defs")

    def resolve(node: Json) -> Json:
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rpartition("/")[2]])
        node = {key: value for key, value in node.items() if key != "title"}
        if "properties" in node:
            properties = {name: resolve(value) for name, value in node["properties"].items()}
            node["properties"] = {name: value for name, value in properties.items() if not value.get("writeOnly")}
        return node

    return resolve(schema)


def setting_rows(schema: Json, overrides: Json, path: str = _CONFIG) -> Iterator[Row]:
    """Yield (path, default, description) of every setting; `overrides` are the chart's own defaults."""
    for name, value in schema["properties"].items():
        where, override = f"{path}.{name}", overrides.get(name)
        if where.removeprefix(f"{_CONFIG}.") in COMPUTED:
            continue
        if "properties" in value:
            yield from setting_rows(value, override or {}, where)
            continue
        default = value.get("default") if override is None else override
        limits = [
            f"{sign} {value[key]:,}"
            for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
            if key in value
        ]
        limits += value.get("enum", [])
        described = value["description"] + (f" ({', '.join(limits)})" if limits else "")
        yield where, "" if default is None else json.dumps(default), described


def main(folder: Path) -> None:
    """Write `folder`/values.schema.json and `folder`/README.md."""
    settings = settings_schema()
    path = folder / "values.schema.json"
    schema = json.loads(path.read_text())
    schema["$defs"]["settings"] = settings
    path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")

    text = (folder / "values.yaml").read_text()
    values: list[Row] = []
    for row in rows(text):
        if not row[0].startswith(f"{_CONFIG}."):
            values.append(row)
        if row[0] == _CONFIG:
            values += setting_rows(settings, yaml.safe_load(text)[_CONFIG])
    chart = yaml.safe_load((folder / "Chart.yaml").read_text())
    table = "\n".join(
        f"| `{path}` | {f'`{default}`' if default else ''} | {comment.replace('|', chr(92) + '|')} |"
        for path, default, comment in values
    )
    (folder / "README.md").write_text(
        f"# The {chart['name']} chart {chart['version']}\n\n"
        "Written by `make chart` from the comments of `values.yaml` and, for `config`, from genaug's settings. How to "
        "install and operate it: [docs/operations.md](../../docs/operations.md).\n\n"
        f"| value | default | description |\n|---|---|---|\n{table}\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
