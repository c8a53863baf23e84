import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from prometheus_client import REGISTRY
from tests.servers import free_port

from genaug.shared import metrics

DASHBOARD = Path(__file__).parents[3] / "helm" / "genaug" / "files" / "dashboard.json"


def exposed() -> set[str]:
    """Names of all samples that our metrics have, once they have been observed."""
    for found in vars(metrics).values():
        labels = getattr(found, "_labelnames", None)
        if labels:
            found.labels(*["x"] * len(labels))
    metrics.BUILD.info({"version": "1", "revision": "r"})
    return {s.name for family in REGISTRY.collect() for s in family.samples if s.name.startswith("genaug_")}


def test_every_metric_of_the_dashboard_is_exposed() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {name for panel in panels for t in panel["targets"] for name in re.findall(r"genaug_\w+", t["expr"])}
    assert asked
    assert asked <= exposed()


def test_every_metric_is_on_the_dashboard() -> None:
    text = DASHBOARD.read_text()
    stems = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in exposed()}
    assert {stem for stem in stems if stem not in text and not stem.endswith("_created")} == set()


def test_prometheus_reads_them_over_http() -> None:
    code = """
import sys, time
from genaug.shared import metrics
from tests.servers import free_port
metrics.serve_metrics("127.0.0.1:" + sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
    port = str(free_port())
    with subprocess.Popen([sys.executable, "-c", code, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        server.communicate()
    assert "genaug_build_info" in text
