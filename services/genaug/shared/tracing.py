"""OpenTelemetry traces, configured by the standard OTEL_… variables; without them, nothing is loaded or sent.

The context is passed on as the W3C's `traceparent`: in a call's metadata, in a run's record, in a Job's environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

TRACEPARENT = "traceparent"

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_tracer: Any = None


def configure_tracing(service: str) -> None:
    """Export spans to OTEL_EXPORTER_OTLP_ENDPOINT (OTLP over gRPC); without it, nothing is traced.

    Args:
        service: Names the service `genaug-{service}`, unless OTEL_SERVICE_NAME is set.
    """
    global _tracer
    if not any(os.environ.get(name) for name in _ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED", "") == "true":
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME") or f"genaug-{service}"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    # Flushed at exit by the provider itself.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("genaug")


@contextmanager
def span(name: str, *, parent: str = "", kind: str = "INTERNAL", **attributes: str | int | float) -> Iterator[None]:
    """Open a span for the enclosed block; an exception marks it as failed.

    Args:
        name: Name of the operation: a method, a step.
        parent: A `traceparent`; by default the current span.
        kind: INTERNAL, SERVER or CLIENT.
        attributes: Span attributes; never pixels, file names or subject ids.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind, Status, StatusCode

    context = extract({TRACEPARENT: parent}) if parent else None
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=SpanKind[kind],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except BaseException as error:
            # The code alone: messages are for callers and logs.
            if not isinstance(error, GeneratorExit):
                current.set_status(Status(StatusCode.ERROR, getattr(error, "code", type(error).__name__)))
            raise


def traceparent() -> str:
    """Return the context to pass on; empty without tracing."""
    if _tracer is None:
        return ""
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier.get(TRACEPARENT, "")


def trace_id(parent: str = "") -> str:
    """Return the trace id (32 hex digits) of `parent`, by default of the current span; empty without tracing."""
    parts = (parent or traceparent()).split("-")
    return parts[1] if len(parts) == 4 else ""


def parent_of(metadata: Mapping[str, Any]) -> str:
    """Return the `traceparent` in a call's metadata or in the environment; empty if there is none."""
    return str(metadata.get(TRACEPARENT) or metadata.get(TRACEPARENT.upper()) or "")
