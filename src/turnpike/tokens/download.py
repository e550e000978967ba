"""Fetching a vocabulary, on purpose: the only code of ``turnpike.tokens`` that uses the network.

tiktoken's own download has no timeout and keeps the whole answer before it looks at it. This one has a deadline and a
greatest size, and only a file with the right digest gets into the cache.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.errors import ConfigurationError
from turnpike.tokens.vocabulary import Vocabulary

__all__ = ["fetch"]

_MAX_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024


def fetch(
    vocabulary: Vocabulary,
    *,
    timeout_s: float = 60.0,
    environ: Mapping[str, str] = os.environ,
    clock: Clock = SYSTEM_CLOCK,
) -> Path:
    """Download a vocabulary's file to where tiktoken looks for it, and return that path.

    Proxies are taken from the environment, as ``urllib`` does.

    Args:
        vocabulary: one of ``VOCABULARIES``.
        timeout_s: bound of the download, in seconds: of each wait for the server, and of all of them together.
        environ: where the variables of tiktoken's cache are read.
        clock: source of time.

    Raises:
        ConfigurationError: if tiktoken's cache is switched off.
        OSError: if the file cannot be had within the time, is not the right one, or cannot be written.
    """
    path = vocabulary.path(environ)
    if path is None:
        raise ConfigurationError(
            "tiktoken's cache is switched off, because TIKTOKEN_CACHE_DIR or DATA_GYM_CACHE_DIR is empty. Let it name a "
            "folder, or unset it."
        )
    content = _download(vocabulary.url, timeout_s, clock)
    if not vocabulary.accepts(content):
        raise OSError(
            f"What {vocabulary.url} has sent is not the vocabulary {vocabulary.name}: its SHA-256 is not "
            f"{vocabulary.sha256}. A proxy may have answered in its place."
        )
    _put(path, content)
    return path


def _download(url: str, timeout_s: float, clock: Clock) -> bytes:
    # Loading these takes longer than anything else here, and whoever only counts needs neither.
    from urllib.error import HTTPError
    from urllib.request import urlopen

    deadline = clock.monotonic() + timeout_s
    content = bytearray()
    try:
        with urlopen(url, timeout=timeout_s) as response:  # noqa: S310 - the addresses are constants of this library
            while part := response.read1(_READ_BYTES):
                content += part
                if len(content) > _MAX_BYTES:
                    raise OSError(f"{url} sends more than {_MAX_BYTES} bytes, which is no vocabulary.")
                if clock.monotonic() > deadline:
                    raise TimeoutError(f"{url} was not complete within {timeout_s:g} s.")
    except HTTPError as error:
        error.close()  # it holds the connection
        raise OSError(f"{url} answers with HTTP status {error.code}.") from None
    return bytes(content)


def _put(path: Path, content: bytes) -> None:
    """Write the file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4()}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
