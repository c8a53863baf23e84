"""The command line's root: services, Jobs, configuration, and the groups of nouns."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

import genaug
from genaug.cli import datasets, images, model_server, runs, store
from genaug.cli.command import FormatOption, client, command, errors_told, group, settings
from genaug.cli.doctor import examine
from genaug.cli.output import check_format, make_table, stderr, stdout
from genaug.jobs import among_several, run_in_processes, run_job
from genaug.schema.jobs import BAD_INPUT, INPUTS
from genaug.serve import GATEWAY, SERVICES, serve, serve_embedded
from genaug.shared.errors import InvalidArgument
from genaug.shared.provenance import libraries, revision
from genaug.shared.store import Store
from genaug.shared.telemetry import configure_logging

app = typer.Typer(
    name="genaug",
    help="Diffusion-based augmentation of imbalanced image data, with an honest verdict.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = group("config", "Look at the configuration.")
for noun in (
    datasets.app,
    runs.run_app,
    runs.evaluation_app,
    images.generator_app,
    images.classifier_app,
    images.selection_app,
    images.images_app,
    store.app,
    model_server.app,
    config_app,
):
    app.add_typer(noun)


@command(app, "serve")
def serve_command(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help=", ".join(["all", *SERVICES, *GATEWAY]))],
    address: Annotated[str, typer.Option(help="host:port or unix:/path.")] = "",
    embedded: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve one of the services, or all of them."""
    known = ["all", *SERVICES, *GATEWAY]
    if service not in known:
        raise InvalidArgument(f"{service!r} is no service; there are {', '.join(known)}", reason="BAD_SERVICE")
    found = settings()
    if address:
        found = found.model_copy(update={"server": found.server.model_copy(update={"address": address})})
    configure_logging(found.log_level)
    if embedded:
        serve_embedded(found)
    else:
        serve(found, service)


@command(app, "job")
def job_command(
    step: Annotated[str, typer.Argument(metavar="STEP", help=", ".join(INPUTS))],
    request: Annotated[str, typer.Option(help="Key of the request in the store.")] = "",
    request_file: Annotated[
        Path | None, typer.Option(help="File that holds the key, as `genaug evaluation plan` writes it.")
    ] = None,
    shard: Annotated[str, typer.Option(help="Which of how many processes this is, such as 0/2.")] = "0/1",
) -> None:
    """Do a Job whose request is in the store. Exit status 42: the input is bad, do not retry."""
    known = next((known for known in INPUTS if known == step), None)
    number, _, shards = shard.partition("/")
    if known is None or not (number.isdecimal() and shards.isdecimal() and int(number) < int(shards)):
        raise InvalidArgument(f"job {step!r} --shard {shard!r}: steps are {', '.join(INPUTS)}", reason="BAD_JOB")
    found = settings()
    configure_logging(found.log_level)
    key = _request_key(request, request_file)
    if known == "finetune" and found.jobs.finetune_processes > 1 and not among_several():
        raise typer.Exit(run_in_processes(found, known, key))
    status = run_job(found, known, key, shard=int(number), shards=int(shards))
    if known == "evaluate" and not status:
        runs.show_stored_evaluation(Store.open(found.store, known), key)
    raise typer.Exit(status)


def _request_key(request: str, request_file: Path | None) -> str:
    """The key that a Job is given, in words or in a file; without one, the input is bad."""
    if bool(request) == bool(request_file):
        print(  # noqa: T201
            "genaug: a Job needs --request or --request-file: finetune, train and report are started by the "
            "orchestrator; `kubectl create job --from=cronjob/genaug-evaluate` alone stands on its own [NO_REQUEST]",
            file=sys.stderr,
        )
        raise typer.Exit(BAD_INPUT)
    if request_file is None:
        return request
    try:
        return request_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"--request-file: cannot be read ({error})", reason="BAD_FILE") from None


@command(app, "doctor")
def doctor(output: FormatOption = "table") -> None:
    """Check what is installed and reachable: packages, device, store, database."""
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
    value = settings().model_dump(mode="json")
    value["database"]["url"] = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:**********@", value["database"]["url"])
    typer.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False).rstrip())


@command(app, "version")
def version(output: FormatOption = "table") -> None:
    """Show the version, the code revision, and the libraries that shape results."""
    check_format(output)
    value = {"version": genaug.__version__, "revision": revision(), "libraries": libraries()}
    if output == "table":
        typer.echo(f"genaug {value['version']} {value['revision']}".rstrip())
    else:
        typer.echo(json.dumps(value, indent=2) if output == "json" else yaml.safe_dump(value, sort_keys=False).rstrip())


@command(app, "gc")
def gc(dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False) -> None:
    """Remove objects from the store that no manifest names."""
    with client() as server:
        found = server.collect_garbage(validate_only=dry_run)
    stderr.print(f"{'would remove' if dry_run else 'removed'} {found.objects} objects, {found.size_bytes} bytes")


def main() -> None:
    """Run the command line."""
    # gRPC's C core says on stderr what our errors say better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with errors_told():
        app()
