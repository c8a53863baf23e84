"""`genaug serve`, `genaug job` and `genaug server …`: commands that run or stop processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from genaug.cli import runs
from genaug.cli.command import command, group, notify, settings
from genaug.cli.output import stderr
from genaug.client.embedded import stop_embedded
from genaug.jobs import among_several, run_in_processes, run_job
from genaug.schema.jobs import BAD_INPUT, INPUTS
from genaug.serve import GATEWAY, SERVICES, serve, serve_embedded
from genaug.shared.errors import InvalidArgument
from genaug.shared.store import Store
from genaug.shared.telemetry import configure_logging

app = group("genaug", "")
server_app = group("server", "Look after the server that commands start over --home.")


@command(server_app, "stop")
def stop(
    force: Annotated[bool, typer.Option(help="Also with a run at work, which goes on with the next command.")] = False,
) -> None:
    """Stop the server over --home now; by itself, it ends some minutes after the last command."""
    configured = settings()
    stopped = stop_embedded(configured, force=force, notify=notify)
    stderr.print(f"{configured.home}: {'stopped' if stopped else 'no server'}")


@command(app, "serve")
def serve_command(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help=", ".join(["all", *SERVICES, *GATEWAY]))],
    address: Annotated[str, typer.Option(help="host:port or unix:/path.")] = "",
    embedded: Annotated[int, typer.Option(hidden=True, help="Descriptor of the home's locked server.lock.")] = -1,
) -> None:
    """Serve one of the services, or all of them."""
    known = ["all", *SERVICES, *GATEWAY]
    if service not in known:
        raise InvalidArgument(f"{service!r} is no service; there are {', '.join(known)}", reason="BAD_SERVICE")
    configuration = settings()
    if address:
        configuration = configuration.model_copy(
            update={"server": configuration.server.model_copy(update={"address": address})}
        )
    configure_logging(configuration.log_level)
    if embedded >= 0:
        serve_embedded(configuration, embedded)
    else:
        serve(configuration, service)


@command(app, "job")
def job_command(
    step: Annotated[str, typer.Argument(metavar="STEP", help=", ".join(INPUTS))],
    request: Annotated[str, typer.Option(help="Key of the request in the store.")] = "",
    request_file: Annotated[
        Path | None, typer.Option(help="File that holds the key, as `genaug evaluation plan` writes it.")
    ] = None,
    shard: Annotated[str, typer.Option(help="Which of how many processes this is, such as 0/2.")] = "0/1",
) -> None:
    """Run the Job of a request in the store. Exit status 42: the input is bad, do not retry."""
    known = next((known for known in INPUTS if known == step), None)
    number, _, shards = shard.partition("/")
    if known is None or not (number.isdecimal() and shards.isdecimal() and int(number) < int(shards)):
        raise InvalidArgument(f"job {step!r} --shard {shard!r}: steps are {', '.join(INPUTS)}", reason="BAD_JOB")
    configuration = settings()
    configure_logging(configuration.log_level)
    key = _request_key(request, request_file)
    if known == "finetune" and configuration.jobs.finetune_processes > 1 and not among_several():
        raise typer.Exit(run_in_processes(configuration, known, key))
    status = run_job(configuration, known, key, shard=int(number), shards=int(shards))
    if known == "evaluate" and not status:
        runs.show_stored_evaluation(Store.open(configuration.store, known), key)
    raise typer.Exit(status)


def _request_key(request: str, request_file: Path | None) -> str:
    """Return the key of a Job's request, from the option or from a file."""
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
