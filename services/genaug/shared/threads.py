"""Threads of the numeric libraries."""

from __future__ import annotations

import os


def set_up_threads(threads: int) -> None:
    """Set the environment variables that torch and numpy read; call it before importing them.

    Args:
        threads: Threads of one operation; 0 leaves it to the libraries.
    """
    # OpenMP threads that spin while they wait are a little faster alone, and many times slower on shared cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(threads)
