"""`genaug run …` and `genaug evaluation …`."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from genaug.cli.command import FormatOption, client, command, group, resource, settings
from genaug.cli.datasets import write_file
from genaug.cli.imports import import_spec
from genaug.cli.output import (
    RunProgress,
    check_format,
    evaluation_table,
    notice,
    run_table,
    show,
    show_list,
    show_plain,
    state_word,
    stderr,
)
from genaug.client import Client
from genaug.schema.completion import complete
from genaug.schema.datasets import Dataset
from genaug.schema.evaluation import Evaluation, EvaluationSpec
from genaug.schema.jobs import BAD_INPUT, EvaluateInputs, read_request
from genaug.schema.model import read
from genaug.schema.run import ImportSpec, RunSpec, run_id
from genaug.schema.runfile import apply_overrides, load_yaml, parse_spec
from genaug.schema.wire import from_proto, to_proto
from genaug.shared.errors import FINAL_CODES, FailedPrecondition, GenaugError, InvalidArgument, NotFound
from genaug.shared.names import check_id
from genaug.shared.protojson import to_dict
from genaug.shared.store import Store
from genaug.v1 import dataset_pb2, evaluation_pb2, run_pb2

run_app = group("run", "Run the six steps.")
evaluation_app = group("evaluation", "Train and score apart from a run.")

RunArgument = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]
FileOption = Annotated[Path, typer.Option("--file", "-f", help="YAML file.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Change one value: path=value.")]
WaitOption = Annotated[bool, typer.Option(help="Wait for the end; Ctrl-C leaves it at work.")]


@command(run_app, "create")
def create(
    file: FileOption,
    wait: WaitOption = False,
    overrides: SetOption = [],  # noqa: B006  # typer's way
    dry_run: Annotated[bool, typer.Option(help="Check the file, print it with its defaults, start nothing.")] = False,
    report: Annotated[Path | None, typer.Option(help="HTML file to write at the end; waits for it.")] = None,
    output: FormatOption = "table",
) -> None:
    """Start a run from a run file. The same file finds the run that exists, and goes on with it if it had stopped."""
    check_format(output)
    if report is not None and not report.absolute().parent.is_dir():
        # Checked now and not after hours of work.
        raise InvalidArgument(f"--report {report}: there is no folder {report.parent}", reason="NOT_WRITABLE")
    wait = wait or report is not None
    spec = parse_spec(_read(file, overrides), run_pb2.RunSpec)
    with client() as server:
        validated = _import_first(server, spec, base=file.parent, dry_run=dry_run)
        run = _completed(spec, validated) if validated else server.create_run(spec, validate_only=dry_run)
        if wait and not dry_run:
            run = _follow(server, run.name)
        if dry_run:
            show_plain(to_dict(run.spec), "json" if output == "json" else "yaml")
        else:
            _show_run(server, run, output)
        if report is not None and run.state == run_pb2.Run.STATE_SUCCEEDED and not dry_run:
            _write_report(server, run.name, report)
    _end(run, waited=wait and not dry_run)


def _import_first(server: Client, spec: run_pb2.RunSpec, *, base: Path, dry_run: bool) -> dataset_pb2.Dataset | None:
    """Import the dataset that the run file describes, unless it exists.

    Returns:
        The dataset as it would be where a dry run has validated the import alone; else None.
    """
    if not spec.HasField("import"):
        return None
    description = getattr(spec, "import")  # a keyword of Python
    if not spec.dataset:
        spec.dataset = check_id(spec.name, field="name")
    for field in ("images", "csv"):
        path = getattr(description, field)
        if path:
            setattr(description, field, str(base / Path(path).expanduser()))
    source = from_proto(ImportSpec, description, path="import", reason="BAD_RUN_FILE")
    try:
        dataset = server.get_dataset(f"datasets/{spec.dataset}")
    except NotFound:
        _check_before_import(server, spec)
        result = import_spec(server, spec.dataset, source, dry_run=dry_run)
        for note in result.dataset.notes:
            notice(f"note: {note}")
        if result.description is not None:
            for alarm in result.description.alarms:
                notice(f"alarm: {alarm.sentence}")
            spec.ClearField("import")
            return result.dataset
    else:
        _check_same(dataset, source)
    spec.ClearField("import")
    return None


def _completed(spec: run_pb2.RunSpec, dataset: dataset_pb2.Dataset) -> run_pb2.Run:
    """Complete a run file against a dataset that is not imported, as the orchestrator would."""
    record = from_proto(Dataset, dataset)
    completed = complete(from_proto(RunSpec, spec, reason="BAD_RUN_FILE"), record)
    return run_pb2.Run(name=f"runs/{run_id(completed, record)}", spec=to_proto(run_pb2.RunSpec, completed))


def _check_before_import(server: Client, spec: run_pb2.RunSpec) -> None:
    """Check the parts of a run file that do not depend on its dataset, before a long import."""
    without_import = run_pb2.RunSpec()
    without_import.CopyFrom(spec)
    without_import.ClearField("import")
    with contextlib.suppress(NotFound):
        server.create_run(without_import, validate_only=True)


def _check_same(dataset: dataset_pb2.Dataset, source: ImportSpec) -> None:
    """Refuse a dataset that was imported with other settings than the run file has."""
    sealed = from_proto(Dataset, dataset)
    pairs = {field: (getattr(source, field), getattr(sealed, field)) for field in ("format", "seed", "folds", "split")}
    if source.format == "auto":
        # The dataset has the format that was found.
        del pairs["format"]
    if sealed.window and (source.window or source.bits):
        given = source.window or (0.0, 2.0**source.bits - 1)
        pairs["window" if source.window else "bits"] = (given, (sealed.window.low, sealed.window.high))
    for field, (value, actual) in pairs.items():
        if value != actual:
            raise FailedPrecondition(
                f"import.{field}: {dataset.name} was sealed with {actual}, not {value}; choose another name, "
                f"or delete it with `genaug dataset delete`",
                reason="OTHER_IMPORT",
            )


@command(run_app, "list")
def list_(output: FormatOption = "table") -> None:
    """List runs, newest first."""
    with client() as server:
        show_list(
            server.list_runs(),
            output,
            columns=("id", "state", "created", "verdict"),
            cells=lambda run: (
                run.name.removeprefix("runs/"),
                state_word(run.state),
                run.create_time,
                # Without its reasons, which are long; `run get` has them.
                run.verdict.sentence.partition(":")[0] or run.error,
            ),
        )


@command(run_app, "get")
def get(name: RunArgument, output: FormatOption = "table") -> None:
    """Show a run."""
    with client() as server:
        _show_run(server, server.get_run(resource(name, "runs")), output)


@command(run_app, "watch")
def watch(name: RunArgument, output: FormatOption = "table") -> None:
    """Follow a run until it ends."""
    check_format(output)
    with client() as server:
        run = _follow(server, resource(name, "runs"))
        _show_run(server, run, output)
    _end(run, waited=True)


@command(run_app, "cancel")
def cancel(name: RunArgument, output: FormatOption = "table") -> None:
    """Stop a run; finished work is kept."""
    with client() as server:
        _show_run(server, server.cancel_run(resource(name, "runs")), output)


@command(run_app, "resume")
def resume(name: RunArgument, wait: WaitOption = False, output: FormatOption = "table") -> None:
    """Go on with a run that was cancelled or failed."""
    check_format(output)
    with client() as server:
        run = server.resume_run(resource(name, "runs"))
        if wait:
            run = _follow(server, run.name)
        _show_run(server, run, output)
    _end(run, waited=wait)


@command(run_app, "report")
def report(
    name: RunArgument, output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")]
) -> None:
    """Write a finished run's report."""
    with client() as server:
        _write_report(server, resource(name, "runs"), output)


def _write_report(server: Client, run: str, file: Path) -> None:
    data = server.get_report(run)
    write_file(file, data)
    stderr.print(f"{file}: {len(data)} bytes")


@command(evaluation_app, "create")
def create_evaluation(
    file: FileOption,
    wait: WaitOption = False,
    overrides: SetOption = [],  # noqa: B006  # typer's way
    output: FormatOption = "table",
) -> None:
    """Train the missing classifiers and score them on the sealed rows."""
    check_format(output)
    spec = parse_spec(_read(file, overrides), evaluation_pb2.EvaluationSpec)
    with client() as server:
        evaluation = server.create_evaluation(spec)
        try:
            while wait and evaluation.state == evaluation_pb2.Evaluation.STATE_RUNNING:
                time.sleep(0.5)
                evaluation = server.get_evaluation(evaluation.name)
        except KeyboardInterrupt:
            _detached(f"genaug evaluation get {evaluation.name}")
    _show_evaluation(evaluation, output)
    if evaluation.state == evaluation_pb2.Evaluation.STATE_FAILED:
        raise FailedPrecondition(f"{evaluation.name} failed: {evaluation.error}", reason="EVALUATION_FAILED")


@command(evaluation_app, "plan")
def plan_evaluation(
    file: FileOption,
    keys: Annotated[Path, typer.Option(help="Folder for the files `train` and `evaluate`: the requests' keys.")],
    overrides: SetOption = [],  # noqa: B006  # typer's way
) -> None:
    """Write an evaluation's requests into the store, without a server, for `genaug job … --request-file`.

    Exit status 42, as of a Job: the file cannot be evaluated, do not retry.
    """
    # Imported here: no other command needs it.
    from genaug.orchestrator.plan import requests_of, write_plan

    try:
        spec = parse_spec(_read(file, overrides), evaluation_pb2.EvaluationSpec)
        name, plan = write_plan(Store.open(settings().store, "orchestrator"), from_proto(EvaluationSpec, spec))
    except GenaugError as error:
        if error.code not in FINAL_CODES:
            raise
        print(f"genaug: {error.message} [{error.reason}]", file=sys.stderr)  # noqa: T201
        raise typer.Exit(BAD_INPUT) from None
    keys.mkdir(parents=True, exist_ok=True)
    for request in requests_of(plan):
        (keys / request.step).write_text(request.key)
    stderr.print(f"{name}: {len(plan.items)} trainings, {len(plan.inputs.scenarios)} scenarios")


@command(evaluation_app, "list")
def list_evaluations(output: FormatOption = "table") -> None:
    """List evaluations, newest first."""
    with client() as server:
        show_list(
            server.list_evaluations(),
            output,
            columns=("id", "name", "state", "created", "verdict"),
            cells=lambda e: (
                e.name.removeprefix("evaluations/"),
                e.spec.name,
                evaluation_pb2.Evaluation.State.Name(e.state).removeprefix("STATE_").lower(),
                e.create_time,
                e.verdict.sentence or e.error,
            ),
        )


@command(evaluation_app, "get")
def get_evaluation(
    name: Annotated[str, typer.Argument(metavar="ID", help="The evaluation's id.")], output: FormatOption = "table"
) -> None:
    """Show an evaluation."""
    with client() as server:
        _show_evaluation(server.get_evaluation(resource(name, "evaluations")), output)


def show_stored_evaluation(store: Store, request: str) -> None:
    """Print the result of the `evaluate` Job at `request`, as `evaluation get` does."""
    inputs = read_request(store, request).inputs
    assert isinstance(inputs, EvaluateInputs)  # noqa: S101  # an evaluate Job's
    evaluation = read(store, f"{inputs.result}/evaluation.json", Evaluation)
    typer.echo(f"{inputs.result}\n")
    _show_evaluation(to_proto(evaluation_pb2.Evaluation, evaluation), "table")


def _read(file: Path, overrides: list[str]) -> dict[str, Any]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"-f {file}: cannot be read ({error})", reason="BAD_FILE") from None
    return apply_overrides(load_yaml(text, source=str(file)), overrides)


def _follow(server: Client, name: str) -> run_pb2.Run:
    """Watch a run until it ends. Ctrl-C detaches and prints how to watch again."""
    run = run_pb2.Run(name=name)
    try:
        with RunProgress() as progress:
            for run in server.watch_run(name):
                progress.update(run)
    except KeyboardInterrupt:
        _detached(f"genaug run watch {name}")
    return run


def _detached(command: str) -> None:
    stderr.print(f"\ndetached; the work goes on. To follow it again:\n  {command}", soft_wrap=True)
    raise SystemExit(1)


def _show_run(server: Client, run: run_pb2.Run, output: str) -> None:
    show(run, output, lambda: run_table(run))
    if output == "table":
        for name in filter(None, (run.evaluation, *run.further_evaluations)):
            typer.echo()
            _show_evaluation(server.get_evaluation(name), output)


def _show_evaluation(evaluation: evaluation_pb2.Evaluation, output: str) -> None:
    show(evaluation, output, lambda: evaluation_table(evaluation) if evaluation.scores else evaluation.name)
    if output == "table" and evaluation.verdict.sentence:
        typer.echo(f"\n{evaluation.verdict.sentence}")


def _end(run: run_pb2.Run, *, waited: bool) -> None:
    """Raise if the command waited for the run and it has not succeeded."""
    if waited and run.state != run_pb2.Run.STATE_SUCCEEDED:
        raise FailedPrecondition(
            f"{run.name} {state_word(run.state)}: {run.error or 'resume it with `genaug run resume`'}",
            reason=f"RUN_{state_word(run.state).upper()}",
        )
