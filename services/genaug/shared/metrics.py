"""Prometheus metrics of all processes. No label is an id."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Info, start_http_server

import genaug
from genaug.shared.errors import FailedPrecondition
from genaug.shared.provenance import revision

# Seconds: calls that read a record, up to Jobs of hours.
_CALL = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_STEP = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)

BUILD = Info("genaug_build", "Version and code revision.")
CALL_SECONDS = Histogram(
    "genaug_call_seconds", "Calls answered, by method and status code.", ("method", "code"), buckets=_CALL
)
CALLS_AT_WORK = Gauge("genaug_calls_at_work", "Calls that are being answered.", ("method",))
QUEUE_DEPTH = Gauge("genaug_queue_depth", "Work that waits for its turn, by queue.", ("queue",))
BATCH_IMAGES = Histogram(
    "genaug_batch_images", "Images that shared one pass of a classifier.", ("queue",), buckets=(1, 2, 4, 8, 16, 32, 64)
)
STORE_SECONDS = Histogram(
    "genaug_store_operation_seconds", "Operations on the object store.", ("operation", "outcome"), buckets=_CALL
)
IMAGES_GENERATED = Counter("genaug_images_generated_total", "Images drawn or transformed.", ("class_name",))
DRAWS_REJECTED = Counter("genaug_draws_rejected_total", "Draws that are no images, by why.", ("reason",))
# Present from the start: `rate()` needs a first sample of 0.
for _reason in ("not_finite", "constant", "black", "duplicate"):
    DRAWS_REJECTED.labels(_reason)
IMAGES_LABELLED = Counter(
    "genaug_images_labelled_total", "Made images by what the labeler made of them.", ("class_name", "verdict")
)
STEP_SECONDS = Histogram("genaug_step_seconds", "Steps of runs, by how they ended.", ("step", "outcome"), buckets=_STEP)
JOBS = Counter("genaug_jobs_total", "Jobs that have ended.", ("step", "outcome"))


def serve_metrics(address: str) -> None:
    """Serve GET /metrics at `address` ("host:port") from a background thread.

    Raises:
        FailedPrecondition: reason ADDRESS_IN_USE; the address cannot be bound.
    """
    BUILD.info({"version": genaug.__version__, "revision": revision()})
    host, _, port = address.rpartition(":")
    try:
        start_http_server(int(port), addr=host.strip("[]") or "0.0.0.0")  # noqa: S104  # what an empty host means
    except (OSError, ValueError) as error:
        raise FailedPrecondition(
            f"server.metrics_address: cannot listen on {address} ({error})", reason="ADDRESS_IN_USE"
        ) from None
