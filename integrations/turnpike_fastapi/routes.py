"""The routes of an application, with their templates as their author wrote them: router prefixes and mounts included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, routing
from starlette.routing import BaseRoute, Mount

from turnpike.boundary.route_templates import UNMATCHED

__all__ = ["own_routes", "route_template"]


def route_template(scope: Mapping[str, Any]) -> str:
    """Return the template, such as ``/v1/chat/{id}``, from the ASGI scope of a request that a route is serving."""
    root = str(scope.get("app_root_path", scope.get("root_path", "")))
    mounted_at = str(scope.get("root_path", "")).removeprefix(root)
    if mounted_at:
        mounted_at = _mount_template(scope["router"].routes, mounted_at)
    path = getattr(_effective_route(scope), "path", None)
    # A folder of files (`app.frontend`) is served by no route.
    return UNMATCHED if path is None else f"{mounted_at}{path}"


def own_routes(app: FastAPI) -> Iterator[Any]:
    """Return the routes of ``app`` and of the routers that it includes, each with its prefixes, but not those of mounts."""
    # Where FastAPI includes routers lazily, it has a function that tells what they come to.
    resolved = getattr(routing, "iter_route_contexts", iter)
    yield from resolved(app.routes)


def _effective_route(scope: Mapping[str, Any]) -> Any:
    # There, a route knows only its own path; one with the prefixes is kept beside it.
    route = scope.get("route")
    effective = scope.get("fastapi", {}).get("effective_route_context")
    return effective if getattr(effective, "original_route", None) is route else route


def _mount_template(routes: Sequence[BaseRoute], prefix: str) -> str:
    """Return the template of the mounts that matched ``prefix``, so that their parameters do not name the route."""
    for mount in routes:
        if isinstance(mount, Mount) and (match := mount.path_regex.match(prefix + "/")):
            rest = match["path"].rstrip("/")
            return mount.path + (_mount_template(mount.routes, "/" + rest) if rest else "")
    return prefix
