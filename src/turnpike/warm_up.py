"""Work that is worth doing before the first call needs it, in a thread of its own: loading price data and SDKs.

Either takes the better part of a second the first time, which no event loop should spend in the middle of a request.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable

__all__ = ["warm_up_in_background"]

_log = logging.getLogger("turnpike")
_threads: list[threading.Thread] = []


def warm_up_in_background(tasks: Iterable[Callable[[], object]]) -> None:
    """Run ``tasks`` one after the other in a daemon thread. What fails is logged and left for the first call to report."""
    thread = threading.Thread(target=_run, args=(tuple(tasks),), name="turnpike-warm-up", daemon=True)
    _threads[:] = [other for other in _threads if other.is_alive()]
    _threads.append(thread)
    thread.start()


def _run(tasks: tuple[Callable[[], object], ...]) -> None:
    for task in tasks:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - the call that needs it says what is missing, and what to do
            _log.debug("warming up failed: %s", type(error).__name__)


def _finish_before_fork() -> None:
    # A fork in the middle of an import leaves the child a half-loaded module whose lock nobody holds any more.
    for thread in _threads:
        if thread is not threading.current_thread():
            thread.join()


os.register_at_fork(before=_finish_before_fork)
