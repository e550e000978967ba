"""How handlers ask for the gateway and for the request's attribution, in every supported version of Litestar."""

from __future__ import annotations

from typing import Annotated, get_args

from litestar import di, params

from turnpike.context import LLMRequestContext
from turnpike.gateway.client import Gateway

__all__ = ["DepContext", "DepGateway"]

# Litestar 2.23 deprecates dependencies without the mark that NamedDependency puts on them, and the mark of older versions.
_MARK = get_args(di.NamedDependency[Gateway])[1] if hasattr(di, "NamedDependency") else params.Dependency()

DepGateway = Annotated[Gateway, _MARK]
"""The application's gateway: ``async def answer(gateway: DepGateway)``. Litestar goes by the parameter's name."""

DepContext = Annotated[LLMRequestContext, _MARK]
"""Who is asking: ``async def answer(llm_context: DepContext)``. Litestar goes by the parameter's name."""
