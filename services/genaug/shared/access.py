"""Authentication of callers by bearer token, their quotas, and the right to data that identify people."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from genaug.shared.errors import FailedPrecondition, PermissionDenied, ResourceExhausted, Unauthenticated
from genaug.shared.settings import AuthSettings

RESTRICTED_METHODS = frozenset({"/genaug.v1.AssemblyService/TraceImages"})
"""Methods that return what lies under `restricted/`: original names and subjects."""

_MINUTE = 60.0
# Shorter tokens can be guessed.
_MIN_TOKEN_LENGTH = 16


class _Entry(BaseModel):
    """Entry of the tokens file: one caller."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr = Field(min_length=_MIN_TOKEN_LENGTH)
    requests_per_minute: int = Field(0, ge=0)
    """Quota of requests per minute; 0 for none."""
    at_once: int = Field(0, ge=0)
    """Quota of concurrent calls; 0 for none."""
    restricted: bool = False
    """Whether it may call `RESTRICTED_METHODS`."""


@dataclass
class Caller:
    """An authenticated caller and the state of its quota (a token bucket). Thread-safe."""

    name: str
    token_sha256: bytes
    requests_per_minute: int = 0
    at_once: int = 0
    restricted: bool = False
    _tokens: float = 0.0
    _refilled: float = 0.0
    _active: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a call against the quota for as long as the context is open.

        Raises:
            ResourceExhausted: reason QUOTA; a refused call does not count.
        """
        with self._lock:
            self._take()
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1

    def _take(self) -> None:
        if self.at_once and self._active >= self.at_once:
            raise ResourceExhausted(
                f"{self.name} has {self._active} calls at work, which is its quota; wait for one to end",
                reason="QUOTA",
                retry_seconds="1",
            )
        if not self.requests_per_minute:
            return
        now = time.monotonic()
        # A token bucket that fills up within a minute: unused requests of one minute are not saved for the next.
        rate = self.requests_per_minute / _MINUTE
        capacity = float(self.requests_per_minute)
        self._tokens = min(capacity, self._tokens + (now - self._refilled) * rate) if self._refilled else capacity
        self._refilled = now
        if self._tokens < 1:
            raise ResourceExhausted(
                f"{self.name} has made its {self.requests_per_minute} requests of this minute; try again later",
                reason="QUOTA",
                retry_seconds=f"{(1 - self._tokens) / rate:.1f}",
            )
        self._tokens -= 1


class Callers:
    """The callers of a server. Without any, calls are not authenticated.

    Args:
        callers: The callers.
        local: Whether only this machine can reach the server.
    """

    def __init__(self, callers: list[Caller], *, local: bool) -> None:
        self._callers = callers
        self._local = local

    def __bool__(self) -> bool:
        return bool(self._callers)

    def find(self, metadata: Mapping[str, Any]) -> Caller:
        """Return the caller identified by the token in a call's metadata.

        Raises:
            Unauthenticated: reason NO_TOKEN or BAD_TOKEN.
        """
        sent = str(metadata.get("authorization", ""))
        if not sent:
            raise Unauthenticated("no token; send metadata `authorization: Bearer <token>`", reason="NO_TOKEN")
        kind, _, token = sent.partition(" ")
        digest = _digest(token.strip()) if kind.lower() == "bearer" else b""
        # All tokens are compared, in constant time each: the duration must not tell which was nearly right.
        matches = [caller for caller in self._callers if hmac.compare_digest(caller.token_sha256, digest)]
        if not matches:
            raise Unauthenticated("the token is not known here", reason="BAD_TOKEN")
        return matches[0]

    def check_right(self, caller: Caller | None, method: str) -> None:
        """Check that a caller may call `method`, such as "/genaug.v1.AssemblyService/TraceImages".

        Where only this machine can reach the server, calls without a token may, too: their user can read the store.

        Args:
            caller: The caller; None where calls are not authenticated.
            method: Full name of the method.

        Raises:
            PermissionDenied: reason RESTRICTED.
        """
        if method not in RESTRICTED_METHODS or (caller.restricted if caller else self._local):
            return
        raise PermissionDenied(
            f"{method.rsplit('/', 1)[-1]} returns names and subjects that identify people; it takes the token of a "
            "caller with `restricted: true` in auth.tokens_file",
            reason="RESTRICTED",
        )


def read_callers(auth: AuthSettings, *, local: bool) -> Callers:
    """Read the callers that the settings configure; none with `auth.mode: none`.

    Args:
        auth: The settings.
        local: Whether only this machine can reach the server.

    Raises:
        FailedPrecondition: reason BAD_TOKENS_FILE, or TOKEN_REQUIRED where other machines can reach the server and no
            token is set.
    """
    if auth.mode == "none":
        return Callers([], local=local)
    own = auth.token.get_secret_value()
    callers = [Caller("genaug", _digest(own), restricted=local)] if own else []
    if auth.tokens_file:
        callers += _read(Path(auth.tokens_file))
    if not callers and not (local and auth.mode == "auto"):
        raise FailedPrecondition(
            "server.address: can be reached from other machines and no token is set; set auth.token "
            "(GENAUG_AUTH__TOKEN) or auth.tokens_file, or say auth.mode: none aloud",
            reason="TOKEN_REQUIRED",
        )
    return Callers(callers, local=local)


def _read(path: Path) -> list[Caller]:
    try:
        document = yaml.safe_load(path.read_text()) or {}
        entries = {str(name): _Entry.model_validate(entry) for name, entry in document.items()}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise FailedPrecondition(
            f"auth.tokens_file: {path} cannot be read as YAML ({type(error).__name__}); it maps a name to "
            "{token, requests_per_minute, at_once, restricted}",
            reason="BAD_TOKENS_FILE",
        ) from None
    except ValidationError as error:
        # Without the values: they are secrets.
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise FailedPrecondition(f"auth.tokens_file: {path}: {problems}", reason="BAD_TOKENS_FILE") from None
    return [
        Caller(
            name,
            _digest(entry.token.get_secret_value()),
            entry.requests_per_minute,
            entry.at_once,
            restricted=entry.restricted,
        )
        for name, entry in entries.items()
    ]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
