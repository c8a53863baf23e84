"""gRPC server of all services: authentication, request ids, error translation, health and reflection."""

from __future__ import annotations

import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from genaug.shared.access import Callers, read_callers
from genaug.shared.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    GenaugError,
    Internal,
    InvalidArgument,
    Unavailable,
)
from genaug.shared.metrics import CALL_SECONDS, CALLS_AT_WORK, serve_metrics
from genaug.shared.settings import Settings, TlsSettings
from genaug.shared.telemetry import request_id, run_id
from genaug.shared.tracing import parent_of, span

log = logging.getLogger(__name__)

ERROR_DOMAIN = "genaug"
# Responses stay below gRPC's own 4 MiB; a request may hold one image of an import.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
FRAME_BYTES = 1024 * 1024
MAX_PAGE_SIZE = 1000
# Health name that is SERVING as long as the process can answer at all (liveness).
ALIVE = "alive"

# Called by kubelet and by debugging tools, which have no token.
_OPEN_METHODS = ("/grpc.health.v1.Health/", "/grpc.reflection.")

T = TypeVar("T")


class Service(Protocol):
    """A service of a server, from start to stop."""

    service_name: str
    """Full name on the wire, such as "genaug.v1.LabelingService"."""

    def warm_up(self) -> None:
        """Prepare to serve; raise if that is impossible. The service is NOT_SERVING until this returns."""

    def close(self) -> None:
        """Finish or stop background work."""


Register = Callable[[grpc.Server, Settings], Service]
"""Function that adds a service to a gRPC server."""


# Seconds between two attempts at opening a service that cannot work.
_RETRY_S = 5.0
# Bytes of an error's message that reach a caller.
_MAX_TEXT_BYTES = 1500


def to_status(error: GenaugError) -> status_pb2.Status:
    """Return the rich status of an error: code, message, `google.rpc.ErrorInfo`, and `RetryInfo` if it has one."""
    metadata = {k: _cut(str(v)) for k, v in error.metadata.items()}
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata))
    if "retry_seconds" in error.metadata:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(float(error.metadata["retry_seconds"]) * 1000))
        status.details.add().Pack(retry)
    return status


def _cut(text: str) -> str:
    """Shorten `text`: gRPC clients refuse a status with too much metadata, and errors may quote long values."""
    data = text.encode()
    return text if len(data) <= _MAX_TEXT_BYTES else f"{data[:_MAX_TEXT_BYTES].decode(errors='ignore')} …"


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Interceptor of every call: request id, authentication, quota, metrics, trace, error translation."""

    def __init__(self, callers: Callers, refusals: Mapping[str, GenaugError]) -> None:
        self._callers = callers
        self._refusals = refusals

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        method: str = details.method
        metadata = dict(details.invocation_metadata or ())
        behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrap = self._streaming if handler.response_streaming else self._unary
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(
            wrap(behavior, method, metadata),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, behavior: Any, method: str, metadata: dict[str, Any]) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with _Guard(context, method, metadata), self._admitted(context, method, metadata):
                return behavior(request, context)

        return call

    def _streaming(self, behavior: Any, method: str, metadata: dict[str, Any]) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with _Guard(context, method, metadata), self._admitted(context, method, metadata):
                yield from behavior(request, context)

        return call

    @contextmanager
    def _admitted(self, context: grpc.ServicerContext, method: str, metadata: dict[str, Any]) -> Iterator[None]:
        """Admit a call, or raise: deadline passed, not authenticated, without the right, above its quota, not ready."""
        with ExitStack() as exits:
            if _is_late(context):
                raise _late()
            if not method.startswith(_OPEN_METHODS):
                caller = self._callers.find(metadata) if self._callers else None
                self._callers.check_right(caller, method)
                if caller:
                    exits.enter_context(caller.admitted())
            refusal = self._refusals.get(method.split("/")[1])
            if refusal is not None:
                raise refusal
            exits.enter_context(span(method.lstrip("/"), parent=parent_of(metadata), kind="SERVER"))
            yield


class _Guard:
    """Context of a call: sets its ids, measures it, and translates exceptions to a status.

    The text of an unexpected exception is logged and never sent to the caller.
    """

    def __init__(self, context: grpc.ServicerContext, method: str, metadata: dict[str, Any]) -> None:
        self._context = context
        self._method = method
        self._id = str(metadata.get("x-request-id", "")) or uuid.uuid4().hex[:16]
        self._run = str(metadata.get("x-run-id", ""))

    def __enter__(self) -> None:
        self._tokens = (request_id.set(self._id), run_id.set(self._run))
        self._start = time.monotonic()
        CALLS_AT_WORK.labels(self._method).inc()
        self._context.set_trailing_metadata((("x-request-id", self._id),))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # A stream may be closed from another thread, where the context variables' tokens are invalid.
        with suppress(ValueError):
            for variable, token in zip((request_id, run_id), self._tokens, strict=True):
                variable.reset(token)
        CALLS_AT_WORK.labels(self._method).dec()
        # Set by the gateway, which passes on the statuses of other servers.
        set_code = self._context.code()  # type: ignore[attr-defined]  # its stubs lack it
        known = isinstance(error, GenaugError | GeneratorExit | None)
        if not known:
            log.error("call failed", exc_info=error, extra={"method": self._method, "request_id": self._id})
        # After the deadline, work ends with a cancellation or an error of the interrupted library; gRPC tells the
        # caller DEADLINE_EXCEEDED, so the status and the metrics say so too.
        if (isinstance(error, Cancelled) or not known) and _is_late(self._context):
            error = _late()
        code = set_code.name if error is None and isinstance(set_code, grpc.StatusCode) else _code_of(error)
        CALL_SECONDS.labels(self._method, code).observe(time.monotonic() - self._start)
        if error is None or isinstance(error, GeneratorExit):
            return
        if isinstance(error, GenaugError):
            log.info("call refused", extra={"method": self._method, "code": error.code, "reason": error.reason})
            self._context.abort_with_status(rpc_status.to_status(to_status(error)))
        hidden = Internal(f"an error of ours; the server's log has it under request id {self._id}", request_id=self._id)
        self._context.abort_with_status(rpc_status.to_status(to_status(hidden)))


def _is_late(context: grpc.ServicerContext) -> bool:
    """Return whether the call's deadline has passed."""
    # gRPC's stubs use None for "no deadline"; at run time it is a time far away.
    remaining: float | None = context.time_remaining()
    return remaining is not None and remaining <= 0


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the call's deadline has passed; ask again with a longer one", reason="DEADLINE_PASSED")


def _code_of(error: BaseException | None) -> str:
    """Return the status code of a call that ended with `error`; CANCELLED for a stream that is left early."""
    if error is None:
        return "OK"
    if isinstance(error, GeneratorExit):
        return "CANCELLED"
    return error.code if isinstance(error, GenaugError) else "INTERNAL"


def is_local(address: str) -> bool:
    """Return whether only this machine can reach `address`."""
    host = address.rsplit(":", 1)[0].strip("[]")
    return address.startswith("unix:") or host in ("127.0.0.1", "localhost", "::1")


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """Return the server's TLS credentials; None for plaintext."""
    if not tls.certificate:
        return None
    try:
        pair = (Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes())
    except OSError as error:
        raise FailedPrecondition(
            f"tls: {error.filename} cannot be read ({error.strerror}); tls.certificate and tls.key are PEM files",
            reason="BAD_TLS",
        ) from None
    return grpc.ssl_server_credentials([pair])


class Server:
    """gRPC server with one or several services.

    Args:
        settings: The configuration; `settings.server.address` is where it listens ("host:0" takes a free port).
        registers: One function per service, called in this order.

    Raises:
        FailedPrecondition: reason ADDRESS_IN_USE, BAD_TLS, TOKEN_REQUIRED or BAD_TOKENS_FILE.
    """

    def __init__(self, settings: Settings, registers: Sequence[Register]) -> None:
        address = settings.server.address
        self._pool = ThreadPoolExecutor(settings.server.threads, thread_name_prefix="rpc")
        self.refusals: dict[str, GenaugError] = {}
        """Errors with which calls are refused, by full service name, while a service is starting or cannot work."""
        self._server = grpc.server(
            self._pool,
            interceptors=[_Interceptor(read_callers(settings.auth, local=is_local(address)), self.refusals)],
            maximum_concurrent_rpcs=settings.server.threads,
            options=_options(settings),
        )
        self._grace = settings.server.grace_s
        port = _listen(self._server, address, _credentials(settings.tls), field="server.address")
        self.address = address if address.startswith("unix:") else f"{address.rsplit(':', 1)[0]}:{port}"
        """Address of the listening socket, with the port that was taken."""
        bound = settings.model_copy(update={"server": settings.server.model_copy(update={"address": self.address})})
        self.services: list[Service] = [register(self._server, bound) for register in registers]
        """The services, in the order of `registers`; their settings have the address that was taken."""
        self.opening: Callable[[str], None] = lambda name: None
        """Called with the full name of each service before it is opened."""
        self._health = health.HealthServicer(experimental_non_blocking=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._probed = self._health_server(settings.server.health_address)
        if settings.server.metrics_address:
            serve_metrics(settings.server.metrics_address)
        names = [service.service_name for service in self.services]
        if settings.server.reflection:
            described = [
                name for service in self.services for name in getattr(service, "forwards", [service.service_name])
            ]
            reflection.enable_server_reflection(
                [*described, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
            )
        for name in names:
            self.refusals[name] = Unavailable(f"{name} is starting; try again in a moment", reason="NOT_READY")
        for name in ("", *names):
            self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)

    def _health_server(self, address: str) -> grpc.Server | None:
        """Return a health server with threads of its own, so that busy services do not fail probes."""
        if not address:
            return None
        server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="health"), options=[("grpc.so_reuseport", 0)])
        _listen(server, address, None, field="server.health_address")
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._health.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
        return server

    def start(self) -> None:
        """Listen and open the services. One that cannot work stays NOT_SERVING and refuses calls with the cause."""
        if self._probed:
            self._probed.start()
        self._server.start()
        self._open()
        log.info(
            "listening",
            extra={"address": self.address, "services": [service.service_name for service in self.services]},
        )

    def _open(self) -> None:
        """Open the services that are not serving yet, and update health."""
        for service in self.services:
            if service.service_name in self.refusals:
                self._warm_up(service)
        if not self.refusals:
            self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    def _warm_up(self, service: Service) -> None:
        name = service.service_name
        self.opening(name)
        try:
            service.warm_up()
        # Any error of one service must not keep the others from opening.
        except Exception as error:
            again = self.refusals[name].reason != "NOT_READY"
            log.error("not serving", exc_info=None if again else error, extra={"service": name})
            hidden = Internal(f"{name} cannot work; the server's log says why")
            self.refusals[name] = error if isinstance(error, GenaugError) else hidden
            return
        del self.refusals[name]
        self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace: float | None = None) -> None:
        """Refuse new calls, close the services, give calls in flight `grace` seconds (`server.grace_s` by default).

        Services close in reverse order: the orchestrator, registered last, calls the others.
        """
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(self._grace if grace is None else grace)
        for service in reversed(self.services):
            service.close()
        stopped.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._probed:
            self._probed.stop(None)

    def run(self, stop: threading.Event | None = None, *, whole: bool = False) -> None:
        """Serve until `stop` is set or SIGTERM or SIGINT arrives, then stop gracefully.

        Args:
            stop: Event that ends the server.
            whole: Whether a service that cannot work ends the server, as for an embedded one without health probes.

        Raises:
            GenaugError: with `whole`, the error of the first service that cannot work.
        """
        stopping = stop or threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: stopping.set())
        self.start()
        if whole and self.refusals:
            self.stop()
            raise next(iter(self.refusals.values()))
        # The cause may pass, such as a store that is not reachable yet.
        while not stopping.wait(_RETRY_S if self.refusals else None):
            self._open()
        log.info("stopping", extra={"address": self.address})
        self.stop()


def _options(settings: Settings) -> list[tuple[str, int]]:
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # gRPC's default is five minutes: a client that sends keepalive pings each minute during a silent call would be
        # disconnected for too many pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
    if settings.server.connection_age_s:
        # gRPC adds 10 % jitter, so that clients do not reconnect all at once; calls in flight are not cut short.
        options.append(("grpc.max_connection_age_ms", settings.server.connection_age_s * 1000))
    return options


def _listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None, *, field: str) -> int:
    """Bind `address` and return the port."""
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise FailedPrecondition(
            f"{field}: cannot listen on {address}; is another server there?", reason="ADDRESS_IN_USE"
        ) from None


def page(items: Sequence[T], *, page_size: int, page_token: str) -> tuple[Sequence[T], str]:
    """Return one page of `items` and the token of the next ("" at the end); tokens are offsets.

    Raises:
        InvalidArgument: reason BAD_PAGE_SIZE or BAD_PAGE_TOKEN.
    """
    if page_size < 0:
        raise InvalidArgument(f"page_size: {page_size} is negative", reason="BAD_PAGE_SIZE")
    if page_token and not page_token.isdecimal():
        raise InvalidArgument("page_token: not one that this server gave", reason="BAD_PAGE_TOKEN")
    start, size = int(page_token or 0), min(page_size or 100, MAX_PAGE_SIZE)
    end = start + size
    return items[start:end], str(end) if end < len(items) else ""


def frames(data: bytes) -> Iterator[bytes]:
    """Split a file into pieces of at most `FRAME_BYTES`."""
    for start in range(0, len(data), FRAME_BYTES):
        yield data[start : start + FRAME_BYTES]
