"""The vocabularies of OpenAI's models: which model has which, where tiktoken keeps its file, and reading it.

Nothing here downloads. tiktoken's own ``get_encoding`` would, with no timeout, wherever its file is missing, damaged or
of another version; so the file is read here, checked, and handed to tiktoken as ranks and pattern.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from turnpike.fork import reset_in_child

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["VOCABULARIES", "FileState", "Vocabulary", "VocabularyShelf", "cache_directory", "vocabulary_for"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One vocabulary: the file with its tokens, and the pattern that cuts text before tokens are looked up.

    Attributes:
        name: tiktoken's name of the encoding.
        url: where OpenAI publishes the file.
        sha256: digest of the file, in hex.
        pattern: regular expression in tiktoken's dialect.
    """

    name: str
    url: str
    sha256: str
    pattern: str = field(repr=False)

    def path(self, environ: Mapping[str, str] = os.environ) -> Path | None:
        """Return where tiktoken looks for the file: the SHA-1 of its URL, in ``cache_directory()``.

        ``None`` if the cache is switched off. Source: ``tiktoken.load.read_file_cached`` of tiktoken 0.14.
        """
        directory = cache_directory(environ)
        return None if directory is None else directory / hashlib.sha1(self.url.encode()).hexdigest()  # noqa: S324

    def state(self, environ: Mapping[str, str] = os.environ) -> FileState:
        """Look whether the file is on disk and is the right one."""
        path = self.path(environ)
        if path is None:
            return "cache off"
        content = _content(path)
        if content is None:
            return "missing"
        return "on disk" if self.accepts(content) else "damaged"

    def accepts(self, content: bytes) -> bool:
        """Whether ``content`` is this vocabulary's file."""
        return hashlib.sha256(content).hexdigest() == self.sha256


FileState = str
"""``on disk``, ``missing``, ``damaged`` (another file is in its place) or ``cache off``."""

_PUBLISHED = "https://openaipublic.blob.core.windows.net/encodings/"

# Addresses, digests and patterns: tiktoken 0.14, tiktoken_ext/openai_public.py (MIT).
VOCABULARIES: Mapping[str, Vocabulary] = {
    vocabulary.name: vocabulary
    for vocabulary in (
        Vocabulary(
            "o200k_base",
            _PUBLISHED + "o200k_base.tiktoken",
            "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ),
        Vocabulary(
            "cl100k_base",
            _PUBLISHED + "cl100k_base.tiktoken",
            "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
            r"|\s+(?!\S)|\s",
        ),
    )
}
"""The vocabularies of all current OpenAI models, by name."""

_SAME_TEXT = {"o200k_harmony": "o200k_base"}
"""Encodings that differ from another one in special tokens only, of which text has none."""


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of tiktoken's cache; ``None`` if the variable that names it is empty, which switches it off.

    ``TIKTOKEN_CACHE_DIR``, else ``DATA_GYM_CACHE_DIR``, else ``data-gym-cache`` in the folder for temporary files.
    """
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in environ:
            named = environ[variable]
            return Path(named) if named else None
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def vocabulary_for(model: str) -> Vocabulary | None:
    """Return the vocabulary of ``model``, as tiktoken knows it.

    ``None`` for other vendors' models, for models newer than the installed tiktoken, and without tiktoken.
    """
    try:
        from tiktoken.model import encoding_name_for_model
    except ImportError:
        return None
    try:
        name = encoding_name_for_model(model)
    except KeyError:
        return None
    return VOCABULARIES.get(_SAME_TEXT.get(name, name))


class VocabularyShelf:
    """The vocabularies that this process has loaded. Each is looked for once, so that counts do not change midway.

    Args:
        environ: where the cache's variables are read.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._encodings: dict[str, Encoding | None] = {}
        self._lock = threading.Lock()
        reset_in_child(self)

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def knows(self, vocabulary: Vocabulary) -> bool:
        """Whether it has been looked for already, and so costs nothing to take."""
        return vocabulary.name in self._encodings

    def take(self, vocabulary: Vocabulary, *, again: bool = False) -> Encoding | None:
        """Return the encoding, loading it if need be; ``None`` if its file is not on disk.

        Args:
            vocabulary: which one.
            again: look for the file once more if it was not there before.
        """
        found = self._encodings.get(vocabulary.name)
        if found is not None or (not again and self.knows(vocabulary)):
            return found
        with self._lock:
            # Another thread may have been first.
            if self._encodings.get(vocabulary.name) is None and (again or not self.knows(vocabulary)):
                self._encodings[vocabulary.name] = _load(vocabulary, self._environ)
            return self._encodings[vocabulary.name]


def _load(vocabulary: Vocabulary, environ: Mapping[str, str]) -> Encoding | None:
    path = vocabulary.path(environ)
    content = _content(path) if path is not None else None
    # The default folder is one that every user of the machine can write to, so the file's name alone proves nothing.
    if content is None or not vocabulary.accepts(content):
        return None
    from tiktoken import Encoding

    return Encoding(vocabulary.name, pat_str=vocabulary.pattern, mergeable_ranks=_ranks(content), special_tokens={})


def _ranks(content: bytes) -> dict[bytes, int]:
    """Read lines of a token in base64, a space, and its rank."""
    pairs = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
