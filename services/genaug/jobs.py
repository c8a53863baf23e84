"""The Jobs: which there are, and how a process does one. Each opens the store with the identity of its step."""

from __future__ import annotations

import importlib
import logging
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from genaug.shared.errors import FINAL_CODES, Cancelled, GenaugError
from genaug.shared.requests import JobRequest, JobStep, Report, Reporter, read_request
from genaug.shared.settings import Settings
from genaug.shared.store import Store
from genaug.shared.threads import set_up_threads

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


def run_job(settings: Settings, step: JobStep, key: str, *, shard: int, shards: int) -> int:
    """Do the Job whose request lies at `key`; return the process's exit status: 0, 1 or 42 (the input is bad).

    Args:
        settings: The configuration.
        step: finetune, train, evaluate or report; also the store identity.
        key: "requests/<step>/<digest>.json".
        shard: Of a `train` Job, the items shard, shard + shards, … are done.
        shards: Processes that share the Job.
    """
    signal.signal(signal.SIGTERM, _cancel)
    set_up_threads(settings.threads)
    store = Store.open(settings.store, step)
    try:
        request = read_request(store, key)
    except GenaugError as error:
        log.error("the Job has no request", extra={"code": error.code, "reason": error.reason, "key": key})
        return BAD_INPUT if error.code in FINAL_CODES else 1
    reporter = Reporter(store, request, shard)
    try:
        if step == "train":
            _train(request, store, reporter, settings.device, items=request.inputs["items"][shard::shards])
        else:
            log.info("finished", extra={"result": _load(step)(request.inputs, store, reporter, device=settings.device)})
    except GenaugError as error:
        reporter.fail(error)
        log.error("the Job failed", extra={"step": step, "code": error.code, "reason": error.reason})
        return BAD_INPUT if error.code in FINAL_CODES else 1
    return 0


def _train(request: JobRequest, store: Store, reporter: Report, device: str, *, items: list[dict[str, Any]]) -> None:
    for index, item in enumerate(items):

        def report(done: int, total: int, unit: str, index: int = index) -> None:
            reporter(index * total + done, len(items) * total, unit)

        log.info("finished", extra={"result": _load(item["role"])(item, store, report, device=device)})


def _load(name: str) -> Job:
    module, _, function = _JOBS[name].partition(":")
    job: Job = getattr(importlib.import_module(module), function)
    return job


def _cancel(number: int, frame: object) -> NoReturn:
    raise Cancelled("the Job was told to end", reason="CANCELLED")
