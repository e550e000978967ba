"""Turnpike in a FastAPI application.

``install(app, settings)`` attaches it; ``dependencies=[Depends(admitted)]`` guards routes; handlers ask for
``DepGateway`` and ``DepContext``. Whatever is decided is decided in ``turnpike.boundary``; this package translates.
"""

from turnpike.errors import MissingExtraError

try:
    import fastapi as _fastapi  # noqa: F401
except ImportError:
    raise MissingExtraError("turnpike_fastapi", "fastapi") from None

from turnpike.boundary.rules import exempt, limit, requires
from turnpike_fastapi.dependencies import DepContext, DepGateway, admitted, context, gateway
from turnpike_fastapi.install import install

__all__ = ["DepContext", "DepGateway", "admitted", "context", "exempt", "gateway", "install", "limit", "requires"]
