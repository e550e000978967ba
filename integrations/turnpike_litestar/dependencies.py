"""How handlers ask for the gateway and for the request's attribution, in every supported version of Litestar."""

from __future__ import annotations

from typing import Annotated

import litestar.di

from turnpike.context import LLMRequestContext
from turnpike.gateway.client import Gateway

__all__ = ["DepContext", "DepGateway"]

# Litestar 2.23 and later want dependencies marked, as NamedDependency does; older ones have no such mark and need none.
_MARK = getattr(getattr(litestar.di, "NamedDependency", None), "__metadata__", (None,))[0]

DepGateway = Annotated[Gateway, _MARK]
"""The application's gateway: ``async def answer(gateway: DepGateway)``. Litestar goes by the parameter's name."""

DepContext = Annotated[LLMRequestContext, _MARK]
"""Who is asking: ``async def answer(llm_context: DepContext)``. Litestar goes by the parameter's name."""
