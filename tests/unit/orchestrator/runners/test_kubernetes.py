"""The Kubernetes runner against an API of our own that keeps Jobs in memory. The real one is in tests/e2e."""

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from genaug.orchestrator.runners import kubernetes as runners
from genaug.orchestrator.runners.kubernetes import KubernetesRunner, job_from
from genaug.schema.jobs import JobRequest, TrainInputs
from genaug.shared.errors import Cancelled, FailedPrecondition, Internal, InvalidArgument, Unavailable
from genaug.shared.progress import ProgressWriter
from genaug.shared.settings import JobSettings, StoreSettings
from genaug.shared.store import Store

REQUEST = JobRequest.of(TrainInputs(items=()))
NAME = f"genaug-train-{REQUEST.digest[:16]}"
CRON_JOB = {
    "metadata": {"name": "genaug-train", "uid": "u1"},
    "spec": {
        "jobTemplate": {
            "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpus"}},
            "spec": {
                "backoffLimit": 4,
                "template": {
                    "spec": {
                        "initContainers": [{"name": "plan"}],
                        "containers": [
                            {"name": "train", "args": ["job", "train"], "env": [{"name": "A", "value": "1"}]}
                        ],
                    }
                },
            },
        }
    },
}


def test_a_job_is_its_template_with_the_request() -> None:
    before = copy.deepcopy(CRON_JOB)
    job = job_from(CRON_JOB, name=f"{NAME}-1", request=REQUEST, shards=3, parallelism=2, traceparent="00-a-b-01")
    assert before == CRON_JOB
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 2)
    assert spec["backoffLimitPerIndex"] == 4
    assert "backoffLimit" not in spec
    assert "initContainers" not in pod
    assert pod["containers"][0]["args"][-4:] == ["--request", REQUEST.key, "--shard", "$(JOB_COMPLETION_INDEX)/3"]
    assert pod["containers"][0]["env"][-1] == {"name": "TRACEPARENT", "value": "00-a-b-01"}
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert job["metadata"]["ownerReferences"][0]["uid"] == "u1"


def test_one_shard_makes_a_plain_job() -> None:
    spec = job_from(CRON_JOB, name=NAME, request=REQUEST, shards=1, parallelism=2)["spec"]
    assert spec["template"]["spec"]["containers"][0]["args"][-1] == "0/1"
    assert "completionMode" not in spec


class Api:
    """Both APIs that the runner asks; a Job ends as `ends` says, at its second look."""

    def __init__(self, ends: str = "Complete") -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.ends = ends
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.away = 0

    def _answer(self, value: Any) -> SimpleNamespace:
        return SimpleNamespace(data=json.dumps(value).encode())

    def read_namespaced_job(self, name: str, **_: Any) -> SimpleNamespace:
        if self.away:
            self.away -= 1
            raise ApiException(status=503, reason="Service Unavailable")
        if name not in self.jobs:
            raise ApiException(status=404)
        job = self.jobs[name]
        job["looks"] = job.get("looks", 0) + 1
        if job["looks"] > 1 and self.ends:
            job["status"] = {"conditions": [{"type": self.ends, "status": "True"}]}
        return self._answer(job)

    def read_namespaced_cron_job(self, name: str, **_: Any) -> SimpleNamespace:
        if name != "genaug-train":
            raise ApiException(status=404)
        return self._answer(CRON_JOB)

    def create_namespaced_job(self, *, body: dict[str, Any], **_: Any) -> SimpleNamespace:
        name = body["metadata"]["name"]
        if name in self.jobs:
            raise ApiException(status=409)
        self.jobs[name] = body | {"status": {}}
        self.created.append(name)
        return self._answer(body)

    def delete_namespaced_job(self, name: str, **_: Any) -> SimpleNamespace:
        self.deleted.append(name)
        return self._answer({})

    def list_namespaced_pod(self, **_: Any) -> SimpleNamespace:
        end = {"exitCode": 137, "reason": "OOMKilled"}
        return self._answer({"items": [{"status": {"containerStatuses": [{"state": {"terminated": end}}]}}]})


@pytest.fixture
def store() -> Store:
    found = Store.open(StoreSettings(url="memory://"), "orchestrator")
    REQUEST.write(found)
    return found


def runner(store: Store, api: Api, monkeypatch: pytest.MonkeyPatch, template: str = "genaug") -> KubernetesRunner:
    monkeypatch.setattr(runners, "_POLL", 0.001)
    monkeypatch.setattr(runners.kubernetes.config, "load_kube_config", lambda: None)
    monkeypatch.setattr(
        runners.kubernetes.config, "list_kube_config_contexts", lambda: ([], {"context": {"namespace": "ns"}})
    )
    found = KubernetesRunner(JobSettings(runner="kubernetes", template=template), store)
    found._batch = found._core = api  # type: ignore[assignment]
    return found


def run(found: KubernetesRunner, is_active=lambda: True, finished=lambda: True) -> list[tuple[Any, ...]]:
    told: list[tuple[Any, ...]] = []
    found.run(REQUEST, shards=3, is_active=is_active, on_progress=lambda *args: told.append(args), finished=finished)
    return told


def test_a_job_runs_once_and_is_found_again(store, monkeypatch) -> None:
    api = Api()
    run(runner(store, api, monkeypatch))
    run(runner(store, api, monkeypatch))
    assert api.created == [f"{NAME}-1"]


def test_a_job_at_work_is_joined(store, monkeypatch) -> None:
    api = Api()
    api.jobs[f"{NAME}-1"] = {"status": {}}
    run(runner(store, api, monkeypatch))
    assert api.created == []


def test_a_failed_one_gets_the_next_attempt(store, monkeypatch) -> None:
    api = Api()
    api.jobs[f"{NAME}-1"] = {"status": {"conditions": [{"type": "Failed", "status": "True"}]}, "looks": -9}
    run(runner(store, api, monkeypatch))
    assert api.created == [f"{NAME}-2"]


def test_results_that_are_gone_are_made_again(store, monkeypatch) -> None:
    api = Api()
    api.jobs[f"{NAME}-1"] = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    run(runner(store, api, monkeypatch), finished=lambda: False)
    assert api.created == [f"{NAME}-2"]


def test_the_jobs_own_error_is_the_runs(store, monkeypatch) -> None:
    api = Api("Failed")
    found = runner(store, api, monkeypatch)
    api_create = api.create_namespaced_job

    def create(**kwargs: Any) -> SimpleNamespace:
        ProgressWriter(store.as_role("train"), REQUEST.progress_key(1)).fail(
            InvalidArgument("classes: none", reason="BAD")
        )
        return api_create(**kwargs)

    api.create_namespaced_job = create  # type: ignore[method-assign]
    with pytest.raises(InvalidArgument, match="classes: none"):
        run(found)


def test_a_pod_that_died_without_a_word_is_described(store, monkeypatch) -> None:
    with pytest.raises(Internal, match=r"OOMKilled.*more memory.*kubectl logs -n ns"):
        run(runner(store, Api("Failed"), monkeypatch))


def test_cancelling_deletes_the_job(store, monkeypatch) -> None:
    api = Api(ends="")
    with pytest.raises(Cancelled):
        run(runner(store, api, monkeypatch), is_active=lambda: False)
    assert api.deleted == [f"{NAME}-1"]


def test_an_orchestrator_that_ends_leaves_the_job_at_work(store, monkeypatch) -> None:
    class Closing(BaseException):
        pass

    def is_active() -> bool:
        raise Closing

    api = Api(ends="")
    with pytest.raises(Closing):
        run(runner(store, api, monkeypatch), is_active=is_active)
    assert api.deleted == []


def test_an_api_server_that_is_away_is_waited_for(store, monkeypatch) -> None:
    api = Api()
    found = runner(store, api, monkeypatch)
    create = api.create_namespaced_job

    def create_and_go(**kwargs: Any) -> SimpleNamespace:
        api.away = 3
        return create(**kwargs)

    api.create_namespaced_job = create_and_go  # type: ignore[method-assign]
    run(found)
    assert api.created == [f"{NAME}-1"]


def test_a_deleted_job_is_started_again_by_the_next_attempt(store, monkeypatch) -> None:
    api = Api(ends="")

    def is_active() -> bool:
        api.jobs.clear()
        return True

    with pytest.raises(Unavailable) as error:
        run(runner(store, api, monkeypatch), is_active=is_active)
    assert error.value.reason == "JOB_GONE"


def test_without_a_template_the_error_names_it(store, monkeypatch) -> None:
    with pytest.raises(FailedPrecondition, match="no CronJob other-train in namespace ns"):
        run(runner(store, Api(), monkeypatch, template="other"))
