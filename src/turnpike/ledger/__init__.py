"""The durable local ledger: one JSON line for each call."""

from turnpike.ledger.line import encode_line
from turnpike.ledger.writer import LedgerWriter

__all__ = ["LedgerWriter", "encode_line"]
