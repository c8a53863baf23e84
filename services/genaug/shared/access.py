"""Who may call, and how much: bearer tokens, each with a name and a quota."""

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

from genaug.shared.errors import FailedPrecondition, ResourceExhausted, Unauthenticated
from genaug.shared.settings import AuthSettings

_MINUTE = 60.0
# Shorter ones can be guessed.
_SHORTEST = 16


class _Entry(BaseModel):
    """A caller, as the tokens file describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr = Field(min_length=_SHORTEST)
    requests_per_minute: int = Field(0, ge=0)
    """0 for any number."""
    at_once: int = Field(0, ge=0)
    """Calls at the same time; 0 for any number."""


@dataclass
class Caller:
    """Somebody whom a token names, with what is left of the quota. Safe to use from many threads."""

    name: str
    token_sha256: bytes
    requests_per_minute: int = 0
    at_once: int = 0
    _left: float = 0.0
    _since: float = 0.0
    _active: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Around a call.

        Raises:
            ResourceExhausted: above the quota; such a call does not count.
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
        # A bucket that a minute fills: what is unused of one minute is not saved for the next.
        rate = self.requests_per_minute / _MINUTE
        full = float(self.requests_per_minute)
        self._left = min(full, self._left + (now - self._since) * rate) if self._since else full
        self._since = now
        if self._left < 1:
            raise ResourceExhausted(
                f"{self.name} has made its {self.requests_per_minute} requests of this minute; try again later",
                reason="QUOTA",
                retry_seconds=f"{(1 - self._left) / rate:.1f}",
            )
        self._left -= 1


class Callers:
    """Those who may call a server; nobody is asked for a name where there are none."""

    def __init__(self, callers: list[Caller]) -> None:
        self._callers = callers

    def __bool__(self) -> bool:
        return bool(self._callers)

    def find(self, metadata: Mapping[str, Any]) -> Caller:
        """The caller that a call's metadata name.

        Raises:
            Unauthenticated: none, or nobody we know.
        """
        sent = str(metadata.get("authorization", ""))
        if not sent:
            raise Unauthenticated("no token; send metadata `authorization: Bearer <token>`", reason="NO_TOKEN")
        kind, _, token = sent.partition(" ")
        digest = _digest(token.strip()) if kind.lower() == "bearer" else b""
        # All are compared, so that the time says nothing about which was nearly right.
        found = [caller for caller in self._callers if hmac.compare_digest(caller.token_sha256, digest)]
        if not found:
            raise Unauthenticated("the token is not known here", reason="BAD_TOKEN")
        return found[0]


def read_callers(auth: AuthSettings, *, local: bool) -> Callers:
    """The callers that the settings name; none where `auth.mode` asks nobody.

    Args:
        auth: The settings.
        local: Whether only this machine can reach the server.

    Raises:
        FailedPrecondition: the tokens file is not what it should be, or others can reach the server and no token is
            set.
    """
    if auth.mode == "none":
        return Callers([])
    own = auth.token.get_secret_value()
    callers = [Caller("genaug", _digest(own))] if own else []
    if auth.tokens_file:
        callers += _read(Path(auth.tokens_file))
    if not callers and not (local and auth.mode == "auto"):
        raise FailedPrecondition(
            "server.address: can be reached from other machines and no token is set; set auth.token "
            "(GENAUG_AUTH__TOKEN) or auth.tokens_file, or say auth.mode: none aloud",
            reason="TOKEN_REQUIRED",
        )
    return Callers(callers)


def _read(path: Path) -> list[Caller]:
    try:
        found = yaml.safe_load(path.read_text()) or {}
        entries = {str(name): _Entry.model_validate(entry) for name, entry in found.items()}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise FailedPrecondition(
            f"auth.tokens_file: {path} cannot be read as YAML ({type(error).__name__}); it maps a name to "
            "{token, requests_per_minute, at_once}",
            reason="BAD_TOKENS_FILE",
        ) from None
    except ValidationError as error:
        # Without the values: they are secrets.
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise FailedPrecondition(f"auth.tokens_file: {path}: {problems}", reason="BAD_TOKENS_FILE") from None
    return [
        Caller(name, _digest(entry.token.get_secret_value()), entry.requests_per_minute, entry.at_once)
        for name, entry in entries.items()
    ]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
