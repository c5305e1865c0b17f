"""Memory of tensors on a CPU."""

from __future__ import annotations

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    By default it returns large blocks to the operating system and faults them in again page by page, which takes up to
    half of the time of a network on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # From malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD.
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**29)):
            mallopt(parameter, value)
