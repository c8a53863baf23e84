"""How every service listens: authentication, request ids, errors, health and reflection, in one place."""

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
# A name that health knows as long as the process can answer at all.
ALIVE = "alive"

# Called by kubelet and by debugging tools before they have a token.
_OPEN_METHODS = ("/grpc.health.v1.Health/", "/grpc.reflection.")

T = TypeVar("T")


class Room(Protocol):
    """What a service registers: the part of it that lives as long as the server."""

    service_name: str
    """Full name on the wire, such as "genaug.v1.LabelingService"."""

    def warm_up(self) -> None:
        """Make ready to work; raise if it cannot. The service is NOT_SERVING until it returns."""

    def close(self) -> None:
        """Finish what must not be left half-done."""


Register = Callable[[grpc.Server, Settings], Room]


# Seconds between two attempts at opening a service that cannot work.
_AGAIN = 5.0
# Bytes of an error's message that reach a caller.
_LONGEST = 1500


def to_status(error: GenaugError) -> status_pb2.Status:
    """The rich status of an error: its code, message, `google.rpc.ErrorInfo`, and when to try again if it says so."""
    metadata = {k: _cut(str(v)) for k, v in error.metadata.items()}
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=metadata))
    if "retry_seconds" in error.metadata:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(float(error.metadata["retry_seconds"]) * 1000))
        status.details.add().Pack(retry)
    return status


def _cut(text: str) -> str:
    """`text` without what would make a client refuse the status as too much metadata: errors quote long values."""
    data = text.encode()
    return text if len(data) <= _LONGEST else f"{data[:_LONGEST].decode(errors='ignore')} …"


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Around every call: request id, caller, quota, metrics, trace, error translation."""

    def __init__(self, callers: Callers, refusals: Mapping[str, GenaugError]) -> None:
        self._callers = callers
        self._refusals = refusals

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        method: str = details.method
        metadata = dict(details.invocation_metadata or ())
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrap = self._streaming if handler.response_streaming else self._unary
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        return make(
            wrap(behaviour, method, metadata),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, behaviour: Any, method: str, metadata: dict[str, Any]) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with _Guard(context, method, metadata), self._admitted(context, method, metadata):
                return behaviour(request, context)

        return call

    def _streaming(self, behaviour: Any, method: str, metadata: dict[str, Any]) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with _Guard(context, method, metadata), self._admitted(context, method, metadata):
                yield from behaviour(request, context)

        return call

    @contextmanager
    def _admitted(self, context: grpc.ServicerContext, method: str, metadata: dict[str, Any]) -> Iterator[None]:
        """Around the work of a call; one that is refused, or that nobody waits for any more, does none."""
        with ExitStack() as exits:
            if _is_late(context):
                raise _late()
            if self._callers and not method.startswith(_OPEN_METHODS):
                exits.enter_context(self._callers.find(metadata).admitted())
            refusal = self._refusals.get(method.split("/")[1])
            if refusal is not None:
                raise refusal
            exits.enter_context(span(method.lstrip("/"), parent=parent_of(metadata), kind="SERVER"))
            yield


class _Guard:
    """Gives a call its ids, counts it, and makes a status of what it raises: an unexpected error's text stays here."""

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
        # A stream may be closed from another thread, in whose context our tokens mean nothing.
        with suppress(ValueError):
            for variable, token in zip((request_id, run_id), self._tokens, strict=True):
                variable.reset(token)
        CALLS_AT_WORK.labels(self._method).dec()
        # Set by the gateway, whose services' errors are not exceptions of ours.
        given = self._context.code()  # type: ignore[attr-defined]  # its stubs lack it
        known = isinstance(error, GenaugError | GeneratorExit | None)
        if not known:
            log.error("call failed", exc_info=error, extra={"method": self._method, "request_id": self._id})
        # Work that stops because its caller's deadline has passed ends in a cancellation, or in an error of whatever
        # was interrupted; gRPC tells the caller DEADLINE_EXCEEDED, and so do the status and the metrics.
        if (isinstance(error, Cancelled) or not known) and _is_late(self._context):
            error = _late()
        code = given.name if error is None and isinstance(given, grpc.StatusCode) else _code_of(error)
        CALL_SECONDS.labels(self._method, code).observe(time.monotonic() - self._start)
        if error is None or isinstance(error, GeneratorExit):
            return
        if isinstance(error, GenaugError):
            log.info("call refused", extra={"method": self._method, "code": error.code, "reason": error.reason})
            self._context.abort_with_status(rpc_status.to_status(to_status(error)))
        hidden = Internal(f"an error of ours; the server's log has it under request id {self._id}", request_id=self._id)
        self._context.abort_with_status(rpc_status.to_status(to_status(hidden)))


def _is_late(context: grpc.ServicerContext) -> bool:
    """Whether the call's deadline has passed."""
    # gRPC's stubs know None for "no deadline"; at run time that is a time far away.
    remaining: float | None = context.time_remaining()
    return remaining is not None and remaining <= 0


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("the call's deadline has passed; ask again with a longer one", reason="DEADLINE_PASSED")


def _code_of(error: BaseException | None) -> str:
    """The status code that a call ends with; of a stream that is left early, CANCELLED."""
    if error is None:
        return "OK"
    if isinstance(error, GeneratorExit):
        return "CANCELLED"
    return error.code if isinstance(error, GenaugError) else "INTERNAL"


def is_local(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    host = address.rsplit(":", 1)[0].strip("[]")
    return address.startswith("unix:") or host in ("127.0.0.1", "localhost", "::1")


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials | None:
    """What a server speaks TLS with; None for in the clear."""
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
    """A gRPC server with some of the services.

    Args:
        settings: The configuration; `settings.server.address` is where it listens ("host:0" takes a free port).
        registers: One function per service.

    Raises:
        FailedPrecondition: the address cannot be bound, or needs a token.
    """

    def __init__(self, settings: Settings, registers: Sequence[Register]) -> None:
        address = settings.server.address
        self._pool = ThreadPoolExecutor(settings.server.threads, thread_name_prefix="rpc")
        self.refusals: dict[str, GenaugError] = {}
        """Why a service takes no calls: it is starting, or cannot work."""
        self._server = grpc.server(
            self._pool,
            interceptors=[_Interceptor(read_callers(settings.auth, local=is_local(address)), self.refusals)],
            maximum_concurrent_rpcs=settings.server.threads,
            options=_options(settings),
        )
        self._grace = settings.server.grace_s
        port = _listen(self._server, address, _credentials(settings.tls), field="server.address")
        self.address = address if address.startswith("unix:") else f"{address.rsplit(':', 1)[0]}:{port}"
        """Where it listens, with the port that was taken."""
        bound = settings.model_copy(update={"server": settings.server.model_copy(update={"address": self.address})})
        self.rooms: list[Room] = [register(self._server, bound) for register in registers]
        """The services, in the order of `registers`; they learn the address that was taken."""
        self.opening: Callable[[str], None] = lambda name: None
        """Called with the full name of each service before it is opened."""
        self._health = health.HealthServicer(experimental_non_blocking=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._probed = self._health_server(settings.server.health_address)
        if settings.server.metrics_address:
            serve_metrics(settings.server.metrics_address)
        names = [room.service_name for room in self.rooms]
        if settings.server.reflection:
            shown = [name for room in self.rooms for name in getattr(room, "forwards", [room.service_name])]
            reflection.enable_server_reflection([*shown, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        for name in names:
            self.refusals[name] = Unavailable(f"{name} is starting; try again in a moment", reason="NOT_READY")
        for name in ("", *names):
            self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)

    def _health_server(self, address: str) -> grpc.Server | None:
        """A server with threads of its own that answers health alone; `ALIVE` is SERVING as long as it answers."""
        if not address:
            return None
        server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="health"), options=[("grpc.so_reuseport", 0)])
        _listen(server, address, None, field="server.health_address")
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._health.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)
        return server

    def start(self) -> None:
        """Listen; each service turns SERVING once it can work. One that cannot stays NOT_SERVING, and says why."""
        if self._probed:
            self._probed.start()
        self._server.start()
        self._open()
        log.info("listening", extra={"address": self.address, "services": [r.service_name for r in self.rooms]})

    def _open(self) -> None:
        """Open the rooms that are not, and tell health."""
        for room in self.rooms:
            if room.service_name in self.refusals:
                self._warm_up(room)
        if not self.refusals:
            self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    def _warm_up(self, room: Room) -> None:
        self.opening(room.service_name)
        try:
            room.warm_up()
        # Whatever keeps one room from working, the others open; health tells.
        except Exception as error:
            again = self.refusals[room.service_name].reason != "NOT_READY"
            log.error("not serving", exc_info=None if again else error, extra={"service": room.service_name})
            hidden = Internal(f"{room.service_name} cannot work; the server's log says why")
            self.refusals[room.service_name] = error if isinstance(error, GenaugError) else hidden
            return
        del self.refusals[room.service_name]
        self._health.set(room.service_name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace: float | None = None) -> None:
        """Refuse new calls, close the rooms, give calls in flight `grace` seconds (the settings' by default).

        The rooms close last to first: the orchestrator, last, is itself a caller of the others.
        """
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(self._grace if grace is None else grace)
        for room in reversed(self.rooms):
            room.close()
        stopped.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._probed:
            self._probed.stop(None)

    def run(self, stop: threading.Event | None = None, *, whole: bool = False) -> None:
        """Serve until `stop` is set or SIGTERM or SIGINT arrives, then stop gracefully.

        Args:
            stop: Ends it.
            whole: Whether a service that cannot work ends all of them, as it does where nobody looks at health.

        Raises:
            GenaugError: what keeps the first such service from working, if `whole`.
        """
        stopping = stop or threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: stopping.set())
        self.start()
        if whole and self.refusals:
            self.stop()
            raise next(iter(self.refusals.values()))
        # What keeps a service from working may pass: a store that is not there yet.
        while not stopping.wait(_AGAIN if self.refusals else None):
            self._open()
        log.info("stopping", extra={"address": self.address})
        self.stop()


def _options(settings: Settings) -> list[tuple[str, int]]:
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # gRPC's own is five minutes: a caller that asks every minute whether we are there, in a call that is silent for
        # some, would be cut off for too many pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
    if settings.server.connection_age_s:
        # gRPC spreads the age by a tenth, so that callers do not all come at once; calls at work are not cut short.
        options.append(("grpc.max_connection_age_ms", settings.server.connection_age_s * 1000))
    return options


def _listen(server: grpc.Server, address: str, credentials: grpc.ServerCredentials | None, *, field: str) -> int:
    """Bind `address`; return the port that was taken."""
    try:
        return server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise FailedPrecondition(
            f"{field}: cannot listen on {address}; is another server there?", reason="ADDRESS_IN_USE"
        ) from None


def page(items: Sequence[T], *, page_size: int, page_token: str) -> tuple[Sequence[T], str]:
    """One page of `items` and the token of the next ("" at the end); tokens are offsets.

    Raises:
        InvalidArgument: the size is negative, or the token is not one of ours.
    """
    if page_size < 0:
        raise InvalidArgument(f"page_size: {page_size} is negative", reason="BAD_PAGE_SIZE")
    if page_token and not page_token.isdecimal():
        raise InvalidArgument("page_token: not one that this server gave", reason="BAD_PAGE_TOKEN")
    start, size = int(page_token or 0), min(page_size or 100, MAX_PAGE_SIZE)
    end = start + size
    return items[start:end], str(end) if end < len(items) else ""


def frames(data: bytes) -> Iterator[bytes]:
    """Cut a file into pieces that fit a message."""
    for start in range(0, len(data), FRAME_BYTES):
        yield data[start : start + FRAME_BYTES]
