"""The device that models compute on."""

from __future__ import annotations

import platform

import torch

from genaug.shared.errors import FailedPrecondition


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
