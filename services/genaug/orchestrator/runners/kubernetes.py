"""Jobs as Kubernetes Jobs: copies of the suspended CronJobs that the chart installs.

A Job's name is `{template}-{step}-{16 hex digits of the request}-{attempt}`, so that an orchestrator that comes back
finds its Jobs again, and none is started twice.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any, TypeVar

import kubernetes
from kubernetes.client.exceptions import ApiException
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override
from urllib3.exceptions import HTTPError

from genaug.orchestrator.runners import JobRunner, forward_progress, recorded_error
from genaug.schema.jobs import JobRequest
from genaug.shared.errors import Cancelled, FailedPrecondition, GenaugError, Internal, Unavailable
from genaug.shared.progress import ProgressCallback
from genaug.shared.retry import retry
from genaug.shared.settings import JobSettings
from genaug.shared.store import Store
from genaug.shared.tracing import TRACEPARENT, traceparent

log = logging.getLogger(__name__)

Json = dict[str, Any]
T = TypeVar("T")

_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_POLL = 1.0
# Seconds between two looks at why no pod runs.
_EXPLAIN = 5.0
# Timeout of a call of the API server, seconds, and retries while it is unreachable: ten minutes.
_ANSWER = 30
_RETRIES = 300


class _Answer(BaseModel):
    """Part of an API object; its other fields are ignored."""

    model_config = ConfigDict(alias_generator=to_camel)


class _Condition(_Answer):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class _Waiting(_Answer):
    reason: str = ""


class _Terminated(_Answer):
    exit_code: int
    reason: str = ""


class _ContainerState(_Answer):
    waiting: _Waiting | None = None
    terminated: _Terminated | None = None


class _Container(_Answer):
    state: _ContainerState = _ContainerState()


class _PodStatus(_Answer):
    conditions: tuple[_Condition, ...] = ()
    init_containers: tuple[_Container, ...] = Field((), alias="initContainerStatuses")
    containers: tuple[_Container, ...] = Field((), alias="containerStatuses")


class _Pod(_Answer):
    status: _PodStatus = _PodStatus()


class _PodList(_Answer):
    items: tuple[_Pod, ...]


class _JobStatus(_Answer):
    ready: int = 0
    conditions: tuple[_Condition, ...] = ()


class _Job(_Answer):
    status: _JobStatus = _JobStatus()


class KubernetesRunner(JobRunner):
    """Runs Jobs in the namespace that we are in ourselves, or outside a cluster in the kubeconfig's."""

    def __init__(self, settings: JobSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        if _NAMESPACE.exists():
            kubernetes.config.load_incluster_config()
            self._namespace = _NAMESPACE.read_text().strip()
        else:
            kubernetes.config.load_kube_config()
            _, context = kubernetes.config.list_kube_config_contexts()
            self._namespace = context["context"].get("namespace", "default")
        self._batch = kubernetes.client.BatchV1Api()
        self._core = kubernetes.client.CoreV1Api()

    @override
    def run(
        self,
        request: JobRequest,
        *,
        shards: int,
        is_active: Callable[[], bool],
        on_progress: ProgressCallback,
        finished: Callable[[], bool],
    ) -> None:
        name = self._claim(request, shards, finished)
        if not name:
            return
        try:
            self._watch(name, request, shards, is_active, on_progress)
        except Cancelled:
            self._delete(name)
            raise

    def _claim(self, request: JobRequest, shards: int, finished: Callable[[], bool]) -> str:
        """The name of the Job that is at work on `request`, started if there was none; "" when it has succeeded."""
        attempt = 1
        while True:
            name = f"{self._settings.template}-{request.step}-{request.digest[:16]}-{attempt}"
            job = self._find(name)
            if job is None:
                # What an earlier attempt said of its end must not be taken for this one's.
                for shard in range(shards):
                    self._store.delete(request.progress_key(shard))
                if self._create(name, request, shards):
                    return name
                continue
            outcome = _outcome(job)
            if not outcome:
                log.info("joining a Job", extra={"job": name})
                return name
            if outcome == "Complete" and finished():
                return ""
            attempt += 1

    def _watch(
        self, name: str, request: JobRequest, shards: int, is_active: Callable[[], bool], on_progress: ProgressCallback
    ) -> None:
        explained = 0.0
        while True:
            if not is_active():
                raise Cancelled("the run was cancelled; `genaug run resume` goes on with it", reason="CANCELLED")
            job = self._patiently(lambda: self._find(name), is_active)
            if job is None:
                raise Unavailable(f"the Job {name} was deleted; it is started again", reason="JOB_GONE")
            reported = forward_progress(self._store, request, shards, on_progress)
            outcome = _outcome(job)
            if outcome == "Complete":
                return
            if outcome == "Failed":
                raise recorded_error(self._store, request, shards) or self._died(name, request)
            if not reported and not job.status.ready and time.monotonic() - explained > _EXPLAIN:
                explained = time.monotonic()
                on_progress(0, 0, "", self._patiently(lambda: self._waits_for(name), is_active))
            time.sleep(_POLL)

    def _patiently(self, ask: Callable[[], T], is_active: Callable[[], bool]) -> T:
        """Retry while the API server is unreachable, for a while: the Job runs on without it."""
        waits = takewhile(lambda _: is_active(), repeat(_POLL * 2, _RETRIES))
        return retry(ask, waits=waits, what="the Kubernetes API")

    def _find(self, name: str) -> _Job | None:
        try:
            return _Job.model_validate(self._ask(self._batch.read_namespaced_job, name))
        except ApiException as error:
            if error.status == 404:
                return None
            raise self._refused(error) from None

    def _create(self, name: str, request: JobRequest, shards: int) -> bool:
        """Start a Job; False when somebody else has just done so."""
        template = f"{self._settings.template}-{request.step}"
        try:
            cron_job = self._ask(self._batch.read_namespaced_cron_job, template)
        except ApiException as error:
            if error.status == 404:
                raise FailedPrecondition(
                    f"there is no CronJob {template} in namespace {self._namespace}, which is the Job's template; "
                    "install the chart, or set jobs.template to its name",
                    reason="NO_JOB_TEMPLATE",
                ) from None
            raise self._refused(error) from None
        job = job_from(
            cron_job,
            name=name,
            request=request,
            shards=shards,
            parallelism=self._settings.parallelism,
            traceparent=traceparent(),
        )
        try:
            self._ask(self._batch.create_namespaced_job, body=job)
        except ApiException as error:
            if error.status == 409:
                return False
            raise self._refused(error) from None
        log.info("started a Job", extra={"job": name, "shards": shards})
        return True

    def _delete(self, name: str) -> None:
        try:
            self._ask(self._batch.delete_namespaced_job, name, propagation_policy="Background")
        except ApiException as error:
            if error.status != 404:
                raise self._refused(error) from None

    def _pods(self, name: str) -> tuple[_Pod, ...]:
        try:
            selector = f"batch.kubernetes.io/job-name={name}"
            answer = self._ask(self._core.list_namespaced_pod, label_selector=selector)
        except ApiException as error:
            raise self._refused(error) from None
        return _PodList.model_validate(answer).items

    def _waits_for(self, name: str) -> str:
        """Reason why no pod of a Job runs, in a few words."""
        for pod in self._pods(name):
            for condition in pod.status.conditions:
                if condition.type == "PodScheduled" and condition.status == "False":
                    return f"waiting for a node: {condition.message or condition.reason}"
            for container in (*pod.status.init_containers, *pod.status.containers):
                if container.state.waiting:
                    return f"starting a pod: {container.state.waiting.reason}"
        return "starting a pod"

    def _died(self, name: str, request: JobRequest) -> GenaugError:
        """The error of a Job when its pods recorded none."""
        ends = [
            container.state.terminated
            for pod in self._pods(name)
            for container in pod.status.containers
            if container.state.terminated and container.state.terminated.exit_code
        ]
        how = f"{ends[-1].reason or 'Error'}, exit status {ends[-1].exit_code}" if ends else "its pods are gone"
        more = "; give it more memory in the chart's values" if "OOMKilled" in how else ""
        return Internal(
            f"the {request.step} Job {name} failed without a word ({how}){more}; "
            f"kubectl logs -n {self._namespace} job/{name}",
            reason="JOB_DIED",
        )

    def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Json:
        """Call the API and read its answer as plain JSON.

        Raises:
            ApiException: it refused; the caller says what that means.
            Unavailable: it cannot be reached, or is busy.
        """
        try:
            answer = method(
                *args, namespace=self._namespace, _preload_content=False, _request_timeout=_ANSWER, **kwargs
            )
            found: Json = json.loads(answer.data)
        except ApiException as error:
            if error.status == 429 or error.status >= 500:
                raise Unavailable(
                    f"the Kubernetes API answers {error.status} {error.reason}", reason="KUBERNETES_UNAVAILABLE"
                ) from None
            raise
        except (HTTPError, OSError) as error:
            raise Unavailable(
                f"the Kubernetes API cannot be reached ({type(error).__name__})", reason="KUBERNETES_UNAVAILABLE"
            ) from None
        return found

    def _refused(self, error: ApiException) -> FailedPrecondition:
        try:
            message = json.loads(error.body or "")["message"]
        except (TypeError, ValueError, KeyError):
            message = str(error.reason)
        return FailedPrecondition(
            f"the Kubernetes API refused ({error.status}): {message}", reason="KUBERNETES_REFUSED"
        )


def job_from(
    cron_job: Json, *, name: str, request: JobRequest, shards: int, parallelism: int, traceparent: str = ""
) -> Json:
    """The Job that does `request`, as the CronJob describes Jobs of its step.

    Containers that make ready what `kubectl create job` evaluates are left out: a request says all that they find out.

    Args:
        cron_job: The CronJob, as the API gives it.
        name: The Job's name.
        request: What to do.
        shards: Pods that share its items; several make an Indexed Job, each index with the template's retries.
        parallelism: Pods at the same time.
        traceparent: The trace that it belongs to.
    """
    template = copy.deepcopy(cron_job["spec"]["jobTemplate"])
    metadata, spec = template.get("metadata", {}), template["spec"]
    pod = spec["template"]["spec"]
    pod.pop("initContainers", None)
    container = pod["containers"][0]
    index = "$(JOB_COMPLETION_INDEX)" if shards > 1 else "0"
    container["args"] = ["job", request.step, "--request", request.key, "--shard", f"{index}/{shards}"]
    if traceparent:
        container["env"] = [*container.get("env", []), {"name": TRACEPARENT.upper(), "value": traceparent}]
    if shards > 1:
        spec |= {"completionMode": "Indexed", "completions": shards, "parallelism": min(shards, parallelism)}
        spec["backoffLimitPerIndex"] = spec.pop("backoffLimit", 2)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "labels": metadata.get("labels", {}),
            "annotations": metadata.get("annotations", {}) | {"genaug.io/request": request.key},
            # Goes with the chart; the CronJob's controller does not count it as its own.
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "CronJob",
                    "name": cron_job["metadata"]["name"],
                    "uid": cron_job["metadata"]["uid"],
                }
            ],
        },
        "spec": spec,
    }


def _outcome(job: _Job) -> str:
    """Condition: "Complete", "Failed", or "" while it runs."""
    for condition in job.status.conditions:
        if condition.type in ("Complete", "Failed") and condition.status == "True":
            return condition.type
    return ""
