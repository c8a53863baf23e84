"""Hands every call on to the service it is for, and the answer back, as bytes.

Who calls and what it may is for the services to say: the caller's metadata travel on.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from genaug.client import bare_channel
from genaug.shared.errors import InvalidArgument, Unavailable
from genaug.shared.settings import Settings
from genaug.shared.telemetry import request_id
from genaug.shared.tracing import TRACEPARENT, traceparent

# Metadata of HTTP/2 and gRPC itself, which belong to one connection.
_HOPS = re.compile(r"^(:.*|grpc-.*|user-agent|content-type|te|x-request-id|traceparent)$")


class Gateway(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic at run time
    """Channels to the services, and what is known of their methods."""

    service_name = "genaug.v1.Gateway"
    """A name for health alone: it has no methods."""

    def __init__(self, settings: Settings) -> None:
        services = {name: f"genaug.v1.{name.capitalize()}Service" for name in type(settings.endpoints).model_fields}
        missing = [name for name in services if not getattr(settings.endpoints, name)]
        if missing:
            raise InvalidArgument(
                f"endpoints.{missing[0]}: the gateway must know where {missing[0]} is", reason="BAD_CONFIGURATION"
            )
        self._closing = threading.Event()
        self._patience = max(0.0, settings.server.grace_s - 2)
        self.forwards = list(services.values())
        """Full names of the services behind it."""
        self._channels = {
            full_name: bare_channel(getattr(settings.endpoints, name), authority=settings.tls.authority)
            for name, full_name in services.items()
        }
        self._methods = {
            f"/{full_name}/{method}": full_name for name, full_name in services.items() for method in _methods(name)
        }

    def warm_up(self) -> None:
        """Nothing: a service that is away is said to be so to those who call it."""

    def close(self) -> None:
        """Let the calls at work end, most of the server's grace; then cut them, so that callers ask another gateway."""
        self._closing.set()
        timer = threading.Timer(self._patience, self._close_channels)
        timer.daemon = True
        timer.start()

    def _close_channels(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def service(self, details: Any) -> Any:
        """How a method is answered: gRPC's `GenericRpcHandler`."""
        full_name = self._methods.get(details.method)
        if full_name is None:
            return None
        call = self._channels[full_name].stream_stream(details.method, None, None)
        return grpc.stream_stream_rpc_method_handler(_hand_on(call, self._closing))


def _methods(name: str) -> list[str]:
    module = importlib.import_module(f"genaug.v1.{name}_service_pb2")
    return list(module.DESCRIPTOR.services_by_name[f"{name.capitalize()}Service"].methods_by_name)


def _hand_on(call: Any, closing: threading.Event) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        sent = [(key, value) for key, value in context.invocation_metadata() if not _HOPS.match(key)]
        own = [("x-request-id", request_id.get()), (TRACEPARENT, traceparent())]
        left = context.time_remaining()
        answers = call(
            requests,
            metadata=[*sent, *(pair for pair in own if pair[1])],
            # gRPC says "no deadline" with a very long one.
            timeout=left if left is not None and left < 1e9 else None,
        )
        context.add_callback(answers.cancel)
        try:
            yield from answers
        except grpc.RpcError:
            if answers.code() is grpc.StatusCode.CANCELLED and closing.is_set():
                raise Unavailable("this gateway is ending; ask again", reason="ENDING") from None
            # Not an error of ours: the service's status goes on as it is.
            context.set_code(answers.code())
            context.set_details(answers.details())
        context.set_trailing_metadata(answers.trailing_metadata() or ())

    return answer


def register(server: grpc.Server, settings: Settings) -> Gateway:
    """Add the gateway to a server."""
    gateway = Gateway(settings)
    server.add_generic_rpc_handlers((gateway,))
    return gateway
