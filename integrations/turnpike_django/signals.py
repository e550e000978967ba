"""Signals of the boundary. A receiver that raises is logged by Django and changes nothing of the request."""

from django.dispatch import Signal

__all__ = ["request_admitted", "request_denied"]

request_admitted: Signal = Signal(use_caching=True)
"""Sent with ``request`` and ``admission`` when somebody was let in; not for routes that need no key."""

request_denied: Signal = Signal(use_caching=True)
"""Sent with ``request`` and ``problem`` when a request is refused."""
