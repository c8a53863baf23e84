"""The Jobs: which there are, and how a process does one. Each opens the store with the identity of its step."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from genaug.schema.jobs import JobStep, read_request
from genaug.shared.errors import FINAL_CODES, Cancelled, GenaugError
from genaug.shared.progress import ProgressCallback, ProgressWriter, read_progress
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.shared.threads import set_up_threads
from genaug.shared.tracing import configure_tracing, parent_of, span

log = logging.getLogger(__name__)

Job = Callable[..., str]

_JOBS: dict[str, str] = {
    "finetune": "genaug.generation.finetune:finetune",
    "evaluate": "genaug.evaluation.measure:evaluate",
    "report": "genaug.evaluation.report.write:write_report",
    "ROLE_LABELER": "genaug.labeling.train:train_labeler",
    "ROLE_EVALUATOR": "genaug.evaluation.train:train_evaluator",
}

# Exit status when the input is bad: trying again cannot help.
BAD_INPUT = 42
# Seconds between being told to end and ending anywhere; below a runner's patience and a pod's grace.
_PATIENCE = 5


def run_job(settings: Settings, step: JobStep, key: str, *, shard: int, shards: int) -> int:
    """Do the Job whose request lies at `key`; return the process's exit status: 0, 1 or 42 (the input is bad).

    Args:
        settings: The configuration.
        step: finetune, train, evaluate or report; also the store identity.
        key: "requests/<step>/<digest>.json".
        shard: Of a `train` Job, the items shard, shard + shards, … are done.
        shards: Processes that share the Job.
    """
    told = _listen()
    set_up_threads(settings.threads)
    configure_tracing(step)
    with span(f"job {step}", parent=parent_of(os.environ), request=key, shard=shard):
        return _run(settings, step, key, told, shard=shard, shards=shards)


def among_several() -> bool:
    """Whether torchrun started this process, with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_in_processes(settings: Settings, step: JobStep, key: str) -> int:
    """Do a Job in several processes of this machine, which torchrun starts and ends together; as `run_job`."""
    store = Store.open(settings.store, step)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "0"]
    command += ["--nproc-per-node", str(settings.jobs.finetune_processes), "-m", "genaug.cli"]
    child = subprocess.Popen([*command, "job", step, "--request", key])
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    if not child.wait():
        return 0
    # torchrun knows one status for all failures; what happened, the processes have said.
    told = read_progress(store, read_request(store, key), 0)
    return BAD_INPUT if told and told.error and told.error["code"] in FINAL_CODES else 1


def _run(settings: Settings, step: JobStep, key: str, told: threading.Event, *, shard: int, shards: int) -> int:
    store = Store.open(settings.store, step)
    try:
        request = read_request(store, key)
    except GenaugError as error:
        log.error("the Job has no request", extra={"code": error.code, "reason": error.reason, "key": key})
        return BAD_INPUT if error.code in FINAL_CODES else 1
    reporter = ProgressWriter(store, request, shard)

    def report(done: int, total: int, unit: str, note: str = "", /) -> None:
        reporter(done, total, unit, note)
        if told.is_set():
            # It ends now: what it keeps is written whole, however long that takes.
            signal.alarm(0)
            raise _cancelled()

    try:
        if step == "train":
            items = request.inputs["items"][shard::shards]
            _train(store, report, settings.device, items=items, sources=request.inputs.get("shelf"))
        else:
            log.info("finished", extra={"result": _load(step)(request.inputs, store, report, device=settings.device)})
    except GenaugError as error:
        # Of several processes, those that end because one has failed must not hide what it said.
        if not (among_several() and isinstance(error, Cancelled)):
            reporter.fail(error)
        log.error("the Job failed", extra={"step": step, "code": error.code, "reason": error.reason})
        return BAD_INPUT if error.code in FINAL_CODES else 1
    return 0


def _train(
    store: Store, report: ProgressCallback, device: str, *, items: list[dict[str, Any]], sources: dict[str, list[str]] | None
) -> None:
    """Train the items one after the other. Updates are told over all of them; images that are read, note."""
    shelf = importlib.import_module("genaug.vision.features.feature_index").read_shelf(store, sources) if sources else None
    updates = [int(item["updates"]) for item in items]
    for index, item in enumerate(items):
        before = sum(updates[:index])

        def tell(
            done: int, total: int, unit: str, note: str = "", /, *, before: int = before, own: int = updates[index]
        ) -> None:
            if unit == "updates":
                # An item may count more than its updates: a labeler's networks that judge out of fold.
                report(before + own * done // total, sum(updates), unit, note)
            else:
                report(before, sum(updates), "updates", f"reading {unit}, {done} of {total}" if done < total else "")

        log.info("finished", extra={"result": _load(item["role"])(item, store, tell, device=device, shelf=shelf)})
        # One that was there already has told nothing.
        report(before + updates[index], sum(updates), "updates")


def _load(name: str) -> Job:
    module, _, function = _JOBS[name].partition(":")
    job: Job = getattr(importlib.import_module(module), function)
    return job


def _listen() -> threading.Event:
    """An event that SIGTERM sets: work ends where it next says how far it is, when what it did is whole.

    Work that says nothing for `_PATIENCE` seconds ends where it is.
    """
    told = threading.Event()

    def tell(number: int, frame: object) -> None:
        told.set()
        signal.alarm(_PATIENCE)

    def end(number: int, frame: object) -> NoReturn:
        raise _cancelled()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGALRM, end)
    return told


def _cancelled() -> Cancelled:
    return Cancelled("the Job was told to end", reason="CANCELLED")
