"""Retries of an operation while a store or an API is unreachable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from genaug.shared.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")


def retry(
    operation: Callable[[], T], *, waits: Iterable[float], what: str, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Call an operation until it no longer raises Unavailable; the last error is raised.

    Args:
        operation: An idempotent operation.
        waits: Seconds before each retry; their number is that of the retries.
        what: The unreachable part, for the log, such as "the store".
        sleep: Waits; may raise to give up.
    """
    for seconds in waits:
        try:
            return operation()
        except Unavailable as error:
            log.warning("%s is unreachable", what, extra={"reason": error.reason, "retry_s": seconds})
            sleep(seconds)
    return operation()
