"""Jobs: long work in a process of its own, which opens the store with the identity of its step."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from genaug.schema.classifiers import Role
from genaug.schema.jobs import BAD_INPUT, FeatureSources, JobStep, TrainInputs, TrainItem, read_request
from genaug.schema.registry import load
from genaug.shared.errors import FINAL_CODES, Cancelled, GenaugError
from genaug.shared.progress import ProgressCallback, ProgressWriter, read_progress
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.shared.threads import set_up_threads
from genaug.shared.tracing import configure_tracing, parent_of, span

log = logging.getLogger(__name__)

# Named, not imported: a Job's process loads no more than its step needs.
_JOBS: dict[JobStep | Role, str] = {
    "finetune": "genaug.generation.finetune:finetune",
    "evaluate": "genaug.evaluation.measure:evaluate",
    "report": "genaug.evaluation.report.write:write_report",
    Role.LABELER: "genaug.labeling.train_labeler:train_labeler",
    Role.EVALUATOR: "genaug.evaluation.train_evaluator:train_evaluator",
}

# Seconds from SIGTERM to the end wherever the work is; below a runner's grace and a pod's.
_GRACE = 5


def run_job(settings: Settings, step: JobStep, key: str, *, shard: int, shards: int) -> int:
    """Run the Job requested at `key`; return the exit status of the process: 0, 1 or 42 (`BAD_INPUT`).

    Args:
        settings: The configuration.
        step: finetune, train, evaluate or report; also the store identity.
        key: "requests/<step>/<digest>.json".
        shard: Of a `train` Job, the items shard, shard + shards, … are done.
        shards: Processes that share the Job.
    """
    terminated = _listen()
    set_up_threads(settings.threads)
    configure_tracing(step)
    with span(f"job {step}", parent=parent_of(os.environ), request=key, shard=shard):
        return _run(settings, step, key, terminated, shard=shard, shards=shards)


def among_several() -> bool:
    """Whether torchrun started this process, with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_in_processes(settings: Settings, step: JobStep, key: str) -> int:
    """Run a Job in several processes of this machine, started and ended together by torchrun; see `run_job`."""
    store = Store.open(settings.store, step)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "0"]
    command += ["--nproc-per-node", str(settings.jobs.finetune_processes), "-m", "genaug.cli"]
    child = subprocess.Popen([*command, "job", step, "--request", key])
    signal.signal(signal.SIGTERM, lambda number, frame: child.terminate())
    if not child.wait():
        return 0
    # torchrun has one status for all failures; the processes have recorded the error.
    progress = read_progress(store, read_request(store, key).progress_key(0))
    return BAD_INPUT if progress and progress.error and progress.error.code in FINAL_CODES else 1


def _run(settings: Settings, step: JobStep, key: str, terminated: threading.Event, *, shard: int, shards: int) -> int:
    store = Store.open(settings.store, step)
    try:
        request = read_request(store, key)
    except GenaugError as error:
        log.error("the Job has no request", extra={"code": error.code, "reason": error.reason, "key": key})
        return BAD_INPUT if error.code in FINAL_CODES else 1
    writer = ProgressWriter(store, request.progress_key(shard))

    def report(done: int, total: int, unit: str, note: str = "", /) -> None:
        writer(done, total, unit, note)
        if terminated.is_set():
            # It ends now: what it keeps is written whole, however long that takes.
            signal.alarm(0)
            raise _cancelled()

    try:
        if isinstance(request.inputs, TrainInputs):
            items = request.inputs.items[shard::shards]
            _train(store, report, settings.device, items=items, sources=request.inputs.features)
        else:
            log.info(
                "finished", extra={"result": load(_JOBS[step])(request.inputs, store, report, device=settings.device)}
            )
    except GenaugError as error:
        # Processes that end because another one has failed must not hide its error.
        if not (among_several() and isinstance(error, Cancelled)):
            writer.fail(error)
        log.error("the Job failed", extra={"step": step, "code": error.code, "reason": error.reason})
        return BAD_INPUT if error.code in FINAL_CODES else 1
    return 0


def _train(
    store: Store, report: ProgressCallback, device: str, *, items: Sequence[TrainItem], sources: FeatureSources
) -> None:
    """Train the items one after the other. Updates are counted over all of them; reading images is a note."""
    features = load("genaug.vision.features.feature_index:read_feature_index")(store, sources)
    total = sum(item.updates for item in items)
    before = 0
    for item in items:

        def report_item(
            done: int, count: int, unit: str, note: str = "", /, *, before: int = before, own: int = item.updates
        ) -> None:
            if unit == "updates":
                # An item may count more than its updates: a labeler's out-of-fold networks.
                report(before + own * done // count, total, unit, note)
            else:
                report(before, total, "updates", f"reading {unit}, {done} of {count}" if done < count else "")

        result = load(_JOBS[item.role])(item, store, report_item, device=device, features=features)
        log.info("finished", extra={"result": result})
        before += item.updates
        # An item that existed already has reported nothing.
        report(before, total, "updates")


def _listen() -> threading.Event:
    """Return an event that SIGTERM sets: work ends at its next progress report, when its results are whole.

    Work that reports nothing for `_GRACE` seconds ends wherever it is.
    """
    terminated = threading.Event()

    def terminate(number: int, frame: object) -> None:
        terminated.set()
        signal.alarm(_GRACE)

    def end(number: int, frame: object) -> NoReturn:
        raise _cancelled()

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGALRM, end)
    return terminated


def _cancelled() -> Cancelled:
    return Cancelled("the Job was stopped", reason="CANCELLED")
