"""Loads the price data ahead of the first price, in a thread of its own."""

from __future__ import annotations

import logging
import os
import threading

from turnpike.pricing.snapshot import is_loaded, load_snapshot
from turnpike.pricing.supplement import load_supplement

__all__ = ["load_in_background", "load_prices"]

_log = logging.getLogger("turnpike.pricing")
_threads: list[threading.Thread] = []


def load_prices() -> None:
    """Load the price data now. Blocks for some hundred milliseconds the first time."""
    load_snapshot()
    load_supplement()


def load_in_background() -> None:
    """Begin to load the price data, unless it is loaded or being loaded: an event loop should never wait for it."""
    if is_loaded() or any(thread.is_alive() for thread in _threads):
        return
    thread = threading.Thread(target=_load, name="turnpike-prices", daemon=True)
    _threads[:] = [thread]
    thread.start()


def _load() -> None:
    try:
        load_prices()
    except Exception:
        _log.exception("loading price data failed; costs are recorded as unknown until it can be loaded")


def _finish_before_fork() -> None:
    # A fork in the middle of an import leaves the child a half-loaded module whose lock nobody holds any more.
    for thread in _threads:
        thread.join()


os.register_at_fork(before=_finish_before_fork)
