"""Sets the ledger beside the simulator's bill book: the same requests, two independent sets of books."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from turnpike.envelope import EnvelopeStatus, LLMRequestEnvelope

__all__ = ["Reckoning", "Spend", "reckon", "spend_by"]


@dataclass
class Spend:
    """What one group of calls came to."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int = 0
    unpriced: int = 0

    def add(self, envelope: LLMRequestEnvelope) -> None:
        """Count one call in."""
        self.calls += 1
        self.tokens_in += envelope.tokens_in or 0
        self.tokens_out += envelope.tokens_out or 0
        if envelope.cost_nano_usd is None:
            self.unpriced += 1
        else:
            self.cost_nano_usd += envelope.cost_nano_usd


@dataclass
class Reckoning:
    """The two sets of books, compared request by request."""

    envelopes: list[LLMRequestEnvelope]
    ledger_nano_usd: int = 0
    bill_nano_usd: int = 0
    """What the simulator billed for the requests whose usage reached us."""
    undelivered_nano_usd: int = 0
    """What it billed for answers that were abandoned before their usage was sent."""
    undelivered_known_nano_usd: int = 0
    """What the ledger has for them: the part of their usage that did arrive, marked as partial."""
    undelivered: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every request is in both books with the same amount."""
        return not self.differences and self.ledger_nano_usd == self.bill_nano_usd


def reckon(ledger: Path, bills: Iterable[dict[str, Any]]) -> Reckoning:
    """Compare the lines of ``ledger`` with the simulator's ``bills``."""
    envelopes = [
        LLMRequestEnvelope.from_dict(msgspec.json.decode(line)) for line in ledger.read_bytes().splitlines() if line
    ]
    result = Reckoning(envelopes)
    by_response = {envelope.response_id: envelope for envelope in envelopes if envelope.response_id}
    for bill in bills:
        if bill["accepted"]:
            _compare(result, bill, by_response.pop(bill["response_id"], None))
    result.differences.extend(f"{response_id} is on the ledger but not in the bill book" for response_id in by_response)
    return result


def _compare(result: Reckoning, bill: dict[str, Any], envelope: LLMRequestEnvelope | None) -> None:
    billed = bill["cost_nano_usd"]
    if envelope is None:
        result.differences.append(f"{bill['response_id']} is in the bill book but not on the ledger")
    elif not bill["delivered_usage"] and envelope.status == EnvelopeStatus.CANCELLED:
        result.undelivered += 1
        result.undelivered_nano_usd += billed
        result.undelivered_known_nano_usd += envelope.cost_nano_usd or 0
    else:
        result.ledger_nano_usd += envelope.cost_nano_usd or 0
        result.bill_nano_usd += billed
        if envelope.cost_nano_usd != billed:
            result.differences.append(f"{bill['response_id']}: ledger {envelope.cost_nano_usd}, bill {billed} nano-USD")


def spend_by(envelopes: Iterable[LLMRequestEnvelope], key: Callable[[LLMRequestEnvelope], str]) -> dict[str, Spend]:
    """Group ``envelopes`` and add up each group, the most expensive first."""
    groups: defaultdict[str, Spend] = defaultdict(Spend)
    for envelope in envelopes:
        groups[key(envelope)].add(envelope)
    return dict(sorted(groups.items(), key=lambda item: (-item[1].cost_nano_usd, item[0])))
