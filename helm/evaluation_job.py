"""Write k8s/examples/evaluation-job.yaml from k8s/genaug.yaml: the CronJob's pod as a Job, with its own evaluation.

Usage: python helm/evaluation_job.py k8s
"""

import sys
from pathlib import Path
from typing import Any

import yaml

_HEAD = """\
# One evaluation, without Helm's hand: kubectl -n genaug create -f k8s/examples/evaluation-job.yaml
# Say below what is evaluated; the containers are those of the CronJob genaug-evaluate. Written by `make chart`.
"""
_EVALUATION = """\
# A finished run's scenarios, with another classifier; or `dataset_versions:`, the first being the reference.
name: by-hand
run: quickstart-01234567
evaluation:
  classifier: {backbone: SMALL_CNN}
  updates: 400
  seeds: 3
"""


class _Block(str):
    """A string that is written as a block."""


yaml.SafeDumper.add_representer(
    _Block, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|")
)


def example(rendered: str) -> str:
    """The example that follows from a rendered chart."""
    found = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "CronJob"]
    cron_job: dict[str, Any] = next(one for one in found if one["metadata"]["name"].endswith("-evaluate"))
    template = cron_job["spec"]["jobTemplate"]
    for volume in template["spec"]["template"]["spec"]["volumes"]:
        if volume["name"] == "evaluation":
            volume["configMap"] = {"name": "evaluation-by-hand"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "evaluation-by-hand"}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"generateName": "evaluation-by-hand-"}}
    documents = [config | {"data": {"evaluation.yaml": _Block(_EVALUATION)}}, job | {"spec": template["spec"]}]
    return _HEAD + yaml.safe_dump_all(documents, sort_keys=False, width=120)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "examples" / "evaluation-job.yaml").write_text(example((folder / "genaug.yaml").read_text()))
