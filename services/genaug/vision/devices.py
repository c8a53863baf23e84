"""The device that models compute on, and the one thread that works on it."""

from __future__ import annotations

import platform
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from genaug.shared.errors import FailedPrecondition, ResourceExhausted, Unavailable

T = TypeVar("T")


def pick_device(device: str) -> torch.device:
    """The torch device for `settings.device`; "auto" is the first accelerator, else the CPU.

    Raises:
        FailedPrecondition: a named device cannot be used.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FailedPrecondition(
            f"device: {device!r} cannot be used ({type(error).__name__}); set GENAUG_DEVICE=cpu or auto",
            reason="NO_DEVICE",
        ) from None
    return torch.device(device)


def describe(device: torch.device) -> str:
    """Describe a device for receipts: an accelerator's name, or the CPU's instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


@dataclass
class _Failure:
    error: BaseException


@dataclass
class _Job(Generic[T]):
    work: Callable[[], Iterator[T]]
    events: queue.Queue[T | _Failure | None]
    abandoned: threading.Event

    def run(self) -> None:
        try:
            for event in self.work():
                if not self._deliver(event):
                    return
            self._deliver(None)
        # Raised in the caller's thread; this one must go on.
        except BaseException as error:
            self._deliver(_Failure(error))

    def _deliver(self, event: T | _Failure | None) -> bool:
        # The caller may leave while its queue is full: a put without a timeout would block the device for good.
        while not self.abandoned.is_set():
            try:
                self.events.put(event, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


class ModelThread:
    """The one thread that works on a device, in order of arrival, so that models neither race nor share memory.

    Args:
        name: For thread listings.
        waiting: Calls in the queue at most; further ones are refused.
    """

    def __init__(self, name: str, *, waiting: int = 16) -> None:
        self._jobs: queue.Queue[_Job[object] | None] = queue.Queue(waiting)
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def stream(self, work: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Run the iterator `work()` on the thread and yield its events; closing this generator stops it.

        Raises:
            ResourceExhausted: too many calls wait already.
        """
        if self._closed:
            raise Unavailable("the server is ending; try again", reason="CLOSING")
        job: _Job[T] = _Job(work, queue.Queue(8), threading.Event())
        try:
            self._jobs.put_nowait(job)  # type: ignore[arg-type]
        except queue.Full:
            raise ResourceExhausted("too many calls wait for the model; try again in a minute", reason="BUSY") from None
        try:
            while (event := self._next(job)) is not None:
                if isinstance(event, _Failure):
                    raise event.error
                yield event
        finally:
            job.abandoned.set()

    def close(self) -> None:
        """Refuse more work, and end the thread after the work in its queue."""
        self._closed = True
        self._jobs.put(None)

    def _next(self, job: _Job[T]) -> T | _Failure | None:
        while True:
            try:
                return job.events.get(timeout=0.5)
            except queue.Empty:
                if not self._thread.is_alive():
                    raise Unavailable("the server is ending; try again", reason="CLOSING") from None

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
