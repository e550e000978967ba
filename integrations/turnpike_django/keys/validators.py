"""What the fields of a key may hold: the rules of ``turnpike.boundary.issued_keys``, as Django's forms ask for them."""

from __future__ import annotations

from django.core.exceptions import ValidationError

from turnpike.settings import parse_rate_limit

MAX_NAME = 200

__all__ = ["validate_rate_limit", "validate_scopes", "validate_text"]


def validate_text(value: str) -> None:
    """Refuse control characters, which would act on a terminal or a log."""
    if not value.isprintable():
        raise ValidationError("Write printable text on one line.")


def validate_scopes(value: str) -> None:
    """Refuse scopes that are not names with spaces between them."""
    if not all(name.isprintable() and len(name) <= MAX_NAME for name in value.split()):
        raise ValidationError(f"Write names of at most {MAX_NAME} printable characters, with spaces between them.")


def validate_rate_limit(value: str) -> None:
    """Refuse what is no rate limit."""
    try:
        parse_rate_limit(value)
    except ValueError as error:
        raise ValidationError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
