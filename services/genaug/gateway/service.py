"""Proxy of gRPC calls to the services, as bytes.

Metadata pass through, so the services authenticate the caller themselves.
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

# Hop-by-hop metadata of HTTP/2 and gRPC, and the keys that the gateway sets itself.
_HOP_BY_HOP = re.compile(r"^(:.*|grpc-.*|user-agent|content-type|te|x-request-id|traceparent)$")


class Gateway(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic at run time
    """gRPC handler that forwards every method of the services over a channel to each."""

    service_name = "genaug.v1.Gateway"
    """Health name; the gateway has no methods of its own."""

    def __init__(self, settings: Settings) -> None:
        services = {name: f"genaug.v1.{name.capitalize()}Service" for name in type(settings.endpoints).model_fields}
        missing = [name for name in services if not getattr(settings.endpoints, name)]
        if missing:
            raise InvalidArgument(
                f"endpoints.{missing[0]}: the gateway must know where {missing[0]} is", reason="BAD_CONFIGURATION"
            )
        self._closing = threading.Event()
        self._drain_s = max(0.0, settings.server.grace_s - 2)
        self.forwards = list(services.values())
        """Full names of the services behind the gateway."""
        self._channels = {
            full_name: bare_channel(getattr(settings.endpoints, name), authority=settings.tls.authority)
            for name, full_name in services.items()
        }
        self._methods = {
            f"/{full_name}/{method}": full_name for name, full_name in services.items() for method in _methods(name)
        }

    def warm_up(self) -> None:
        """Return at once: calls to a service that is not reachable fail with UNAVAILABLE."""

    def close(self) -> None:
        """Let calls in flight end during most of `server.grace_s`, then cut them, so that clients retry elsewhere."""
        self._closing.set()
        timer = threading.Timer(self._drain_s, self._close_channels)
        timer.daemon = True
        timer.start()

    def _close_channels(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def service(self, details: Any) -> Any:
        """Return the handler of a method; None for an unknown one. Called by gRPC."""
        full_name = self._methods.get(details.method)
        if full_name is None:
            return None
        call = self._channels[full_name].stream_stream(details.method, None, None)
        return grpc.stream_stream_rpc_method_handler(_forward(call, self._closing))


def _methods(name: str) -> list[str]:
    module = importlib.import_module(f"genaug.v1.{name}_service_pb2")
    return list(module.DESCRIPTOR.services_by_name[f"{name.capitalize()}Service"].methods_by_name)


def _forward(call: Any, closing: threading.Event) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
    def handler(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        passed = [(key, value) for key, value in context.invocation_metadata() if not _HOP_BY_HOP.match(key)]
        own = [("x-request-id", request_id.get()), (TRACEPARENT, traceparent())]
        remaining = context.time_remaining()
        responses = call(
            requests,
            metadata=[*passed, *(pair for pair in own if pair[1])],
            # gRPC reports "no deadline" as a very long one.
            timeout=remaining if remaining is not None and remaining < 1e9 else None,
        )
        context.add_callback(responses.cancel)
        try:
            yield from responses
        except grpc.RpcError:
            if responses.code() is grpc.StatusCode.CANCELLED and closing.is_set():
                raise Unavailable("this gateway is ending; ask again", reason="ENDING") from None
            # The service's status is passed on unchanged.
            context.set_code(responses.code())
            context.set_details(responses.details())
        context.set_trailing_metadata(responses.trailing_metadata() or ())

    return handler


def register(server: grpc.Server, settings: Settings) -> Gateway:
    """Add the gateway to a server."""
    gateway = Gateway(settings)
    server.add_generic_rpc_handlers((gateway,))
    return gateway
