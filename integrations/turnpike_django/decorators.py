"""What a view says about its own route: the core's marks, for functions, methods and view classes alike."""

from turnpike.boundary.rules import exempt, limit, requires

__all__ = ["exempt", "limit", "requires"]
