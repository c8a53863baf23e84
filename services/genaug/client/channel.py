"""gRPC channels: retries, token, request id, and translation of errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from genaug.shared.errors import BY_CODE, FailedPrecondition, GenaugError, Internal
from genaug.shared.telemetry import request_id, run_id
from genaug.shared.tracing import TRACEPARENT, traceparent

# UNAVAILABLE alone is retried. All calls are safe to repeat, since results are named by their inputs.
# Round robin over the addresses of a name: in a cluster, the replicas of a service.
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "3s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _Metadata(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Interceptor that adds the token and the ids of request, run and trace to each call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def _call(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), ("x-request-id", request_id.get() or uuid.uuid4().hex[:16])]
        context = (
            ("authorization", f"Bearer {self._token}" if self._token else ""),
            ("x-run-id", run_id.get()),
            (TRACEPARENT, traceparent()),
        )
        metadata += [(key, value) for key, value in context if value]
        return continuation(
            _CallDetails(
                details.method,
                details.timeout,
                metadata,
                details.credentials,
                details.wait_for_ready,
                details.compression,
            ),
            request,
        )

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)


def connect(endpoint: str, *, token: str = "", authority: str = "") -> grpc.Channel:
    """Return a channel that authenticates its calls. It connects at the first call.

    Args:
        endpoint: "host:port" or "unix:/path" in the clear, "https://host:port" with TLS.
        token: Bearer token, if the server requires one.
        authority: PEM file of the certificates to trust; the system's when empty.

    Raises:
        FailedPrecondition: reason BAD_TLS; `authority` cannot be read.
    """
    return grpc.intercept_channel(bare_channel(endpoint, authority=authority), _Metadata(token))


def bare_channel(endpoint: str, *, authority: str = "", ours: bool = True, spread: bool = True) -> grpc.Channel:
    """Return a channel that adds no metadata, for a proxy or a foreign server.

    Args:
        endpoint: As for `connect`.
        authority: As for `connect`.
        ours: Whether the server is genaug, so that calls may be retried.
        spread: Whether calls go round robin over the addresses of a foreign server's name, or to one of them.

    Raises:
        FailedPrecondition: reason BAD_TLS; `authority` cannot be read.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", 8 * 1024 * 1024),
        # Short, so that a new replica is found soon.
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ]
    if ours:
        options += [("grpc.service_config", _SERVICE_CONFIG), ("grpc.keepalive_time_ms", 60_000)]
    else:
        policy = "round_robin" if spread else "pick_first"
        # By default, channels with equal options share connections; these must not.
        options += [("grpc.enable_retries", 0), ("grpc.lb_policy_name", policy), ("grpc.use_local_subchannel_pool", 1)]
    if not endpoint.startswith("https://"):
        return grpc.insecure_channel(endpoint.removeprefix("http://"), options)
    try:
        trusted = Path(authority).read_bytes() if authority else None
    except OSError as error:
        raise FailedPrecondition(
            f"tls.authority: {authority} cannot be read ({error.strerror})", reason="BAD_TLS"
        ) from None
    return grpc.secure_channel(endpoint.removeprefix("https://"), grpc.ssl_channel_credentials(trusted), options)


@contextmanager
def translated(endpoint: str) -> Iterator[None]:
    """Raise the server's errors as the classes of `genaug.shared.errors`."""
    try:
        yield
    except grpc.RpcError as error:
        raise _to_genaug_error(error, endpoint) from None


def _to_genaug_error(error: Any, endpoint: str) -> GenaugError:
    code: str = error.code().name
    status = rpc_status.from_call(error)
    if status is not None:
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                kind = BY_CODE.get(code, Internal)
                return kind(status.message, reason=info.reason, **dict(info.metadata))
    if code == "UNIMPLEMENTED":
        return FailedPrecondition(
            f"{endpoint} answers, but does not serve this call; is it genaug, and of this version?",
            reason="NOT_THIS_SERVICE",
        )
    text = error.details() or code
    if code == "DEADLINE_EXCEEDED":
        text = (
            f"{endpoint} did not answer within the call's deadline; ask again with a longer one: what was finished is "
            "kept, and found"
        )
    if code == "UNAVAILABLE":
        text = f"{endpoint} cannot be reached ({text}); check --endpoint and that the server runs"
    return BY_CODE.get(code, Internal)(text)
