"""Turnpike in a Litestar application.

``Litestar(..., plugins=[TurnpikePlugin(settings)])`` attaches it and guards every route; handlers ask for
``gateway: DepGateway`` and ``llm_context: DepContext``. Whatever is decided is decided in ``turnpike.boundary``; this
package translates.
"""

from turnpike.errors import MissingExtraError

try:
    import litestar as _litestar  # noqa: F401
except ImportError:
    raise MissingExtraError("turnpike_litestar", "litestar") from None

from turnpike.boundary.rules import exempt, limit, requires
from turnpike_litestar.dependencies import DepContext, DepGateway
from turnpike_litestar.guards import requires_scopes
from turnpike_litestar.plugin import TurnpikePlugin

__all__ = ["DepContext", "DepGateway", "TurnpikePlugin", "exempt", "limit", "requires", "requires_scopes"]
