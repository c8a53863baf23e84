"""`genaug doctor`, `genaug config …`, `genaug version` and `genaug gc`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
import yaml

import genaug
from genaug.cli.command import FormatOption, client, command, group, settings
from genaug.cli.doctor import examine
from genaug.cli.output import check_format, make_table, stderr, stdout
from genaug.shared.errors import InvalidArgument
from genaug.shared.provenance import libraries, revision
from genaug.shared.settings import masked

app = group("genaug", "")
config_app = group("config", "Look at the configuration.")


@command(app, "doctor")
def doctor(output: FormatOption = "table") -> None:
    """Check packages, device, store and database."""
    check_format(output)
    findings = list(examine(settings()))
    if output == "table":
        rows = [("ok" if finding.ok else "FAILED", finding.check, finding.detail) for finding in findings]
        stdout.print(make_table(("", "check", "finding"), rows))
    else:
        value = [finding.as_dict() for finding in findings]
        typer.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@command(config_app, "show")
def config_show(output: Annotated[str, typer.Option("--output", "-o", help="yaml or json")] = "yaml") -> None:
    """Show the configuration in force; secrets as asterisks."""
    if output not in ("yaml", "json"):
        raise InvalidArgument(f"-o {output!r}: choose yaml or json", reason="BAD_FORMAT")
    value = masked(settings()).model_dump(mode="json")
    typer.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False).rstrip())


@command(app, "version")
def version(output: FormatOption = "table") -> None:
    """Show the version, the code revision, and the libraries that shape results."""
    check_format(output)
    if output == "table":
        typer.echo(f"genaug {genaug.__version__} {revision()}".rstrip())
    else:
        value = {"version": genaug.__version__, "revision": revision(), "libraries": libraries()}
        typer.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False).rstrip())


@command(app, "gc")
def gc(dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False) -> None:
    """Remove objects from the store that no manifest names."""
    with client() as server:
        garbage = server.collect_garbage(validate_only=dry_run)
    stderr.print(f"{'would remove' if dry_run else 'removed'} {garbage.objects} objects, {garbage.size_bytes} bytes")
