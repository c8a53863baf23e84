"""`genaug model-server …`: TorchServe as a model server for labeling."""

from __future__ import annotations

import http.server
import os
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from genaug.cli.command import command, group, precision_named, resource, settings
from genaug.schema.common import Precision
from genaug.shared.errors import FailedPrecondition, GenaugError
from genaug.shared.names import digest_id
from genaug.shared.store import Store
from genaug.shared.telemetry import configure_logging
from genaug.shared.threads import set_up_threads

app = group("model-server", "Run TorchServe as a model server, and keep its classifiers those of the store.")

# Seconds for which a request of labeling holds; labeling renews it each minute.
_REQUEST_S = 180.0

# Management listens on this host alone: it can load code.
_PROPERTIES = """\
inference_address=http://{address}:{ping_port}
management_address=http://127.0.0.1:{management_port}
metrics_address=http://{address}:{metrics_port}
grpc_inference_address={address}
grpc_inference_port={port}
grpc_management_address=127.0.0.1
grpc_management_port={grpc_management_port}
ts_open_inference_protocol=true
enable_model_api=true
disable_token_authorization=true
metrics_mode=prometheus
model_metrics_auto_detect=true
job_queue_size={queue}
allowed_urls=file://.*
default_workers_per_model=1
model_store={models}
load_models={load}
"""
# TorchServe's default configuration logs three lines per request.
_LOGGING = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <Console name="console" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} %p %c %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="console"/></Root>
    <Logger name="ACCESS_LOG" level="OFF"/>
    <Logger name="TS_METRICS" level="OFF"/>
    <Logger name="MODEL_METRICS" level="OFF"/>
    <Logger name="MODEL_LOG" level="INFO"/>
  </Loggers>
</Configuration>
"""


def is_whole(folder: Path) -> bool:
    """Return whether a folder holds a complete export."""
    return not folder.name.startswith(".") and (folder / "MAR-INF").is_dir()


@command(app, "run")
def run(
    models: Annotated[Path, typer.Option(help="Folder of exported classifiers: TorchServe's model store.")],
    address: Annotated[str, typer.Option(help="Host to listen on for inference, health and metrics.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the Open Inference Protocol (gRPC).")] = 7070,
    ping_port: Annotated[int, typer.Option(help="Port of /ping.")] = 8080,
    management_port: Annotated[int, typer.Option(help="Port of the management API, on 127.0.0.1 alone.")] = 8081,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics.")] = 8082,
    grpc_management_port: Annotated[int, typer.Option(hidden=True)] = 7071,
    queue: Annotated[int, typer.Option(help="Requests of a model that may wait.")] = 200,
) -> None:
    """Run TorchServe over every classifier in a folder. Needs Java 11 or later and genaug[torchserve]."""
    java = shutil.which("java")
    home = Path(sysconfig.get_path("purelib"))
    if java is None or not (home / "ts" / "frontend").is_dir():
        missing = "Java (a JRE, 11 or later)" if java is None else "TorchServe: pip install 'genaug[torchserve]'"
        raise FailedPrecondition(f"model-server: needs {missing}", reason="NO_TORCHSERVE")
    models.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="model-server-"))
    load = ",".join(f"{folder.name}={folder.name}" for folder in sorted(models.iterdir()) if is_whole(folder))
    ports = {"port": port, "ping_port": ping_port, "management_port": management_port, "metrics_port": metrics_port}
    (scratch / "config.properties").write_text(
        _PROPERTIES.format(
            address=address,
            models=models.absolute(),
            queue=queue,
            load=load or "none",
            grpc_management_port=grpc_management_port,
            **ports,
        )
    )
    (scratch / "log4j2.xml").write_text(_LOGGING)
    set_up_threads(settings().threads)
    environment = os.environ | {
        "TMPDIR": str(scratch),
        "LOG_LOCATION": str(scratch / "logs"),
        "METRICS_LOCATION": str(scratch / "metrics"),
    }
    # Not by TorchServe's own script, which leaves the server running on SIGTERM.
    command_line = [
        *(java, "-XX:MaxRAMPercentage=10", f"-Djava.io.tmpdir={scratch}", f"-Dmodel_server_home={home}"),
        f"-Dlog4j2.configurationFile=file://{scratch / 'log4j2.xml'}",
        *("-cp", f"{home / 'ts' / 'frontend'}/*", "org.pytorch.serve.ModelServer", "--python", sys.executable),
        *("-f", str(scratch / "config.properties"), "-s", str(models.absolute()), "-ncs"),
    ]
    os.chdir(scratch)
    os.execve(java, command_line, environment)  # noqa: S606  # no shell


@command(app, "sync")
def sync(
    models: Annotated[Path, typer.Option(help="TorchServe's model store, which this command writes.")],
    classifier: Annotated[list[str] | None, typer.Option(help="Classifier to serve; may be repeated.")] = None,
    labelers: Annotated[int, typer.Option(min=0, help="Labelers trained last that are loaded unasked.")] = 2,
    precision: Annotated[str, typer.Option(help="Number format of those: FLOAT32, BFLOAT16 or INT8.")] = "FLOAT32",
    management: Annotated[str, typer.Option(help="TorchServe's management API.")] = "http://127.0.0.1:8081",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the store.")] = 2.0,
    linger: Annotated[float, typer.Option(min=0, help="Seconds that a classifier stays once it is not wanted.")] = 600,
    ready_port: Annotated[int, typer.Option(min=0, help="Port of /ready, for probes; 0 for none.")] = 0,
) -> None:
    """Load and unload classifiers of a TorchServe as labeling requests them, until interrupted."""
    from genaug.labeling.model_requests import read_requests
    from genaug.labeling.model_store import Labelers, ModelStore, TorchServe
    from genaug.vision.batching.dynamic_batcher import ModelKey

    precision_named(precision)
    configuration = settings()
    configure_logging(configuration.log_level)
    number_format = Precision[precision]
    fixed = [ModelKey(resource(name, "classifiers"), number_format) for name in classifier or ()]
    for model in fixed:
        digest_id(model.name, "classifiers")
    server, store = TorchServe(management), Store.open(configuration.store, "labeling")
    model_store, trained = ModelStore(store, models, server, linger_s=linger), Labelers(store)
    synced = threading.Event()
    if ready_port:
        _answer_probes(ready_port, lambda: synced.is_set() and server.is_ready())
    while True:
        try:
            newest = trained.newest(labelers, number_format) if labelers else []
            requested = read_requests(store, within_s=max(linger, _REQUEST_S))
            if model_store.sync(list(dict.fromkeys([*fixed, *requested, *newest]))):
                synced.set()
        except GenaugError as error:
            # The store or the server may be unreachable for a while.
            print(f"genaug: {error.message} [{error.reason}]", file=sys.stderr)  # noqa: T201
        time.sleep(interval)


def _answer_probes(port: int, ready: Callable[[], bool]) -> None:
    """Serve GET /ready (200 or 503) from a background thread: TorchServe's /ping is ready too early."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if ready() else 503)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Log no probes."""

    server = http.server.ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
