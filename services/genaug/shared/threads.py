"""How many cores the numeric libraries take, and whether they let go of them."""

from __future__ import annotations

import os


def set_up_threads(threads: int) -> None:
    """Tell torch and numpy, which read this when they are imported: call it before.

    Args:
        threads: Threads of one operation; 0 leaves it to the libraries.
    """
    # Threads that spin while they wait are a little faster alone, and many times slower where others want the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(threads)
