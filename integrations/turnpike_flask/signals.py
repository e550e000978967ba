"""Signals of the boundary, sent as Flask sends its own: the application is the sender."""

from __future__ import annotations

from blinker import NamedSignal, Namespace

__all__ = ["request_admitted", "request_denied"]

_signals = Namespace()

request_admitted: NamedSignal = _signals.signal("turnpike-request-admitted")
"""Sent with ``context`` once a request has been admitted and its identity bound; not on routes that are open."""

request_denied: NamedSignal = _signals.signal("turnpike-request-denied")
"""Sent with ``problem`` when a request is refused before its view."""
