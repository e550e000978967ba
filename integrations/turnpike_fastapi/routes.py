"""The template of the route that serves a request, as its author wrote it: router prefixes and mounts included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute, Mount

__all__ = ["route_template"]


def route_template(scope: Mapping[str, Any]) -> str:
    """Return the template, such as ``/v1/chat/{id}``, from the ASGI scope of a request that a route is serving."""
    root = str(scope.get("app_root_path", scope.get("root_path", "")))
    mounted_at = str(scope.get("root_path", "")).removeprefix(root)
    if mounted_at:
        mounted_at = _mount_template(scope["router"].routes, mounted_at)
    return mounted_at + str(_effective_route(scope).path)


def _effective_route(scope: Mapping[str, Any]) -> Any:
    # Where FastAPI includes routers lazily, a route knows only its own path; one with the prefixes is kept beside it.
    route = scope["route"]
    effective = scope.get("fastapi", {}).get("effective_route_context")
    return effective if getattr(effective, "original_route", None) is route else route


def _mount_template(routes: Sequence[BaseRoute], prefix: str) -> str:
    """Return the template of the mounts that matched ``prefix``, so that their parameters do not name the route."""
    for mount in routes:
        if isinstance(mount, Mount) and (match := mount.path_regex.match(prefix + "/")):
            rest = match["path"].rstrip("/")
            return mount.path + (_mount_template(mount.routes, "/" + rest) if rest else "")
    return prefix
