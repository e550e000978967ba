"""The text of an issued key: ``tpk_<live|test>_<id>_<secret><checksum>``.

The prefix lets scanners find a leaked key, and the checksum lets them, and this library, tell a key from a typing error
without asking any store; both are GitHub's idea
(https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/). The id is public, the secret is not:
nothing here logs, keeps or repeats a key.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Literal

from turnpike.secret import Secret

__all__ = ["KEY_PATTERN", "Environment", "key_id_in", "make_key", "parse_key"]

Environment = Literal["live", "test"]
"""What a key is for, visible in its text, so that a scanner or a reviewer knows how bad a leak is."""

KEY_PATTERN = r"tpk_(?:live|test)_[0-9A-Za-z]{9}_[0-9A-Za-z]{39}"
"""Regular expression of a key, for secret scanners."""

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_DIGITS = 9
_SECRET_DIGITS = 33  # 62**33 > 2**192
_SECRET_BYTES = 24
_CHECKSUM_DIGITS = 6  # 62**6 > 2**32
_LENGTH = len("tpk_live__") + _ID_DIGITS + _SECRET_DIGITS + _CHECKSUM_DIGITS
_KEY = re.compile(KEY_PATTERN, re.ASCII)
_ID_AT = slice(len("tpk_live_"), len("tpk_live_") + _ID_DIGITS)
_NAMED = re.compile(r"(?:tpk_(?:live|test)_)?([0-9A-Za-z]{9})(?:_.*)?", re.ASCII | re.DOTALL)


def make_key(environment: Environment, random_bytes: Callable[[int], bytes]) -> tuple[str, Secret]:
    """Return the id and the text of a new key.

    Args:
        environment: ``live`` or ``test``.
        random_bytes: returns so many bytes that nobody can foretell, as ``secrets.token_bytes`` does.
    """
    key_id = _base62(int.from_bytes(random_bytes(8), "big") % 62**_ID_DIGITS, _ID_DIGITS)
    secret = _base62(int.from_bytes(random_bytes(_SECRET_BYTES), "big"), _SECRET_DIGITS)
    body = f"tpk_{environment}_{key_id}_{secret}"
    return key_id, Secret(body + _checksum(body))


def parse_key(raw_key: object) -> str | None:
    """Return the id in ``raw_key`` if that is a whole key with the right checksum. Never raises, whatever it is given.

    This says nothing about whether the key was ever issued: anyone can compute a checksum.
    """
    # The length first: it refuses nearly everything that is not a key in constant time.
    if not isinstance(raw_key, str) or len(raw_key) != _LENGTH or _KEY.fullmatch(raw_key) is None:
        return None
    if _checksum(raw_key[:-_CHECKSUM_DIGITS]) != raw_key[-_CHECKSUM_DIGITS:]:
        return None
    return raw_key[_ID_AT]


def key_id_in(text: str) -> str | None:
    """Return the id that an operator means by ``text``: an id, the beginning of a key, or a whole one, however damaged."""
    match = _NAMED.fullmatch(text.strip())
    return match[1] if match else None


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), _CHECKSUM_DIGITS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
