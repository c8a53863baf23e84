"""How every service listens: authentication, request ids, errors, health and reflection, in one place."""

from __future__ import annotations

import hmac
import logging
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from genaug.shared.errors import (
    FailedPrecondition,
    GenaugError,
    Internal,
    InvalidArgument,
    Unauthenticated,
    Unavailable,
)
from genaug.shared.settings import AuthSettings, Settings
from genaug.shared.telemetry import request_id

log = logging.getLogger(__name__)

ERROR_DOMAIN = "genaug"
# Responses stay below gRPC's own 4 MiB; a request may hold one image of an import.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
FRAME_BYTES = 1024 * 1024
MAX_PAGE_SIZE = 1000

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


# Bytes of an error's message that reach a caller.
_LONGEST = 1500


def to_status(error: GenaugError) -> status_pb2.Status:
    """The rich status of an error: its code, message and `google.rpc.ErrorInfo`."""
    detail = any_pb2.Any()
    detail.Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=ERROR_DOMAIN, metadata={k: _cut(str(v)) for k, v in error.metadata.items()}
        )
    )
    return status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message), details=[detail])


def _cut(text: str) -> str:
    """`text` without what would make a client refuse the status as too much metadata: errors quote long values."""
    data = text.encode()
    return text if len(data) <= _LONGEST else f"{data[:_LONGEST].decode(errors='ignore')} …"


class _Interceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Around every call: request id, principal, error translation. An unexpected error's text stays here."""

    def __init__(self, token: str, refusals: Mapping[str, GenaugError]) -> None:
        self._token = token
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
            with _Guard(context, method, metadata):
                self._admit(method, metadata)
                return behaviour(request, context)

        return call

    def _streaming(self, behaviour: Any, method: str, metadata: dict[str, Any]) -> Any:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with _Guard(context, method, metadata):
                self._admit(method, metadata)
                yield from behaviour(request, context)

        return call

    def _admit(self, method: str, metadata: dict[str, Any]) -> None:
        self._authenticate(method, metadata)
        refusal = self._refusals.get(method.split("/")[1])
        if refusal is not None:
            raise refusal

    def _authenticate(self, method: str, metadata: dict[str, Any]) -> None:
        if not self._token or method.startswith(_OPEN_METHODS):
            return
        sent = str(metadata.get("authorization", ""))
        if not sent:
            raise Unauthenticated("no token; send metadata `authorization: Bearer <token>`", reason="NO_TOKEN")
        if not hmac.compare_digest(sent.encode(), f"Bearer {self._token}".encode()):
            raise Unauthenticated("the token is not known here", reason="BAD_TOKEN")


class _Guard:
    """Gives a call its request id and turns what it raises into a status."""

    def __init__(self, context: grpc.ServicerContext, method: str, metadata: dict[str, Any]) -> None:
        self._context = context
        self._method = method
        self._id = str(metadata.get("x-request-id", "")) or uuid.uuid4().hex[:16]

    def __enter__(self) -> None:
        self._token = request_id.set(self._id)
        self._start = time.monotonic()
        self._context.set_trailing_metadata((("x-request-id", self._id),))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # A stream may be closed from another thread, in whose context our token means nothing.
        with suppress(ValueError):
            request_id.reset(self._token)
        if error is None or isinstance(error, GeneratorExit):
            return
        if isinstance(error, GenaugError):
            log.info("call refused", extra={"method": self._method, "code": error.code, "reason": error.reason})
            self._context.abort_with_status(rpc_status.to_status(to_status(error)))
        log.error("call failed", exc_info=error, extra={"method": self._method, "request_id": self._id})
        hidden = Internal(f"an error of ours; the server's log has it under request id {self._id}", request_id=self._id)
        self._context.abort_with_status(rpc_status.to_status(to_status(hidden)))


def is_local(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    host = address.rsplit(":", 1)[0].strip("[]")
    return address.startswith("unix:") or host in ("127.0.0.1", "localhost", "::1")


def _token(auth: AuthSettings, address: str) -> str:
    token = auth.token.get_secret_value()
    if auth.mode == "none":
        return ""
    if auth.mode == "auto" and is_local(address):
        return token
    if not token:
        raise FailedPrecondition(
            f"{address} can be reached from other machines and no token is set; "
            "set GENAUG_AUTH__TOKEN, or say GENAUG_AUTH__MODE=none",
            reason="NO_TOKEN",
        )
    return token


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
            interceptors=[_Interceptor(_token(settings.auth, address), self.refusals)],
            maximum_concurrent_rpcs=settings.server.threads,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)],
        )
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise FailedPrecondition(
                f"server.address: cannot listen on {address}; is another server there?", reason="ADDRESS_IN_USE"
            ) from None
        self.address = address if address.startswith("unix:") else f"{address.rsplit(':', 1)[0]}:{port}"
        """Where it listens, with the port that was taken."""
        bound = settings.model_copy(update={"server": settings.server.model_copy(update={"address": self.address})})
        self.rooms: list[Room] = [register(self._server, bound) for register in registers]
        """The services, in the order of `registers`; they learn the address that was taken."""
        self._health = health.HealthServicer(experimental_non_blocking=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [room.service_name for room in self.rooms]
        if settings.server.reflection:
            reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        for name in names:
            self.refusals[name] = Unavailable(f"{name} is starting; try again in a moment", reason="NOT_READY")
        for name in ("", *names):
            self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)

    def start(self) -> None:
        """Listen; each service turns SERVING once it can work. One that cannot stays NOT_SERVING, and says why."""
        self._server.start()
        ready = [self._warm_up(room) for room in self.rooms]
        if all(ready):
            self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        log.info("listening", extra={"address": self.address, "services": [r.service_name for r in self.rooms]})

    def _warm_up(self, room: Room) -> bool:
        try:
            room.warm_up()
        # Whatever keeps one room from working, the others open; health tells.
        except Exception as error:
            log.error("not serving", exc_info=error, extra={"service": room.service_name})
            hidden = Internal(f"{room.service_name} cannot work; the server's log says why")
            self.refusals[room.service_name] = error if isinstance(error, GenaugError) else hidden
            return False
        del self.refusals[room.service_name]
        self._health.set(room.service_name, health_pb2.HealthCheckResponse.SERVING)
        return True

    def stop(self, grace: float = 10.0) -> None:
        """Refuse new calls, close the rooms, give calls in flight `grace` seconds.

        The rooms close last to first: the orchestrator, last, is itself a caller of the others.
        """
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(grace)
        for room in reversed(self.rooms):
            room.close()
        stopped.wait()
        self._pool.shutdown(wait=False, cancel_futures=True)

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
        stopping.wait()
        log.info("stopping", extra={"address": self.address})
        self.stop()


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
