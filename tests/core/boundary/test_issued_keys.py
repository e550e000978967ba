"""Issued keys: told from garbage by their text alone, kept as keyed digests, found by id, and never shown again."""

from __future__ import annotations

import hashlib
import hmac
import logging
import pickle
import random
import re
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from turnpike.boundary import issued_keys
from turnpike.boundary.issued_keys import (
    IssuedKey,
    IssuedKeyStore,
    KeyRecord,
    digest_of,
    issue,
    pepper_id_of,
)
from turnpike.boundary.key_format import KEY_PATTERN, key_id_in, make_key, parse_key
from turnpike.boundary.keys import Principal
from turnpike.errors import ConfigurationError
from turnpike.secret import Secret
from turnpike.settings import RateLimit

PEPPER = Secret("pepper-canary")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ManualClock:
    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Records:
    """Records in memory, which count how often they are asked."""

    def __init__(self, *records: KeyRecord) -> None:
        self.by_id = {record.key_id: record for record in records}
        self.asked: list[str] = []

    def get(self, key_id: str) -> KeyRecord | None:
        self.asked.append(key_id)
        return self.by_id.get(key_id)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issued(clock: ManualClock) -> IssuedKey:
    return make(clock)


def make(clock: ManualClock, **fields: Any) -> IssuedKey:
    wanted: dict[str, Any] = {"tenant": "acme", "pepper": PEPPER, "clock": clock, **fields}
    return issue(**wanted)


def with_checksum(body: str) -> str:
    """A key of the right form, made by anyone who knows the format."""
    rest, checksum = zlib.crc32(body.encode()), ""
    while len(checksum) < 6:
        rest, digit = divmod(rest, 62)
        checksum = DIGITS[digit] + checksum
    return body + checksum


def store_of(clock: ManualClock, *records: KeyRecord, peppers: tuple[Secret, ...] = (PEPPER,)) -> IssuedKeyStore:
    return IssuedKeyStore(Records(*records), peppers, clock=clock)


# ---------------------------------------------------------------------------------------------------- the text of a key


def test_a_key_shows_what_it_is_for_and_its_id_and_ends_in_its_checksum() -> None:
    key_id, key = make_key("test", lambda size: bytes(range(size)))
    assert key_id == "1IYT0XLWR"
    assert key.reveal() == "tpk_test_1IYT0XLWR_000A7dl5PEW67zZCpFU9uKaHnGgOvQKAR43DB9g"
    assert key.reveal() == with_checksum(key.reveal()[:-6])


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["live", "test"]))
@example(bytes(32), "live")
@example(b"\xff" * 32, "live")
def test_every_key_that_is_made_is_one_that_is_read(entropy: bytes, environment: Any) -> None:
    pieces = {8: entropy[:8], 24: entropy[8:]}
    key_id, key = make_key(environment, pieces.__getitem__)
    assert parse_key(key.reveal()) == key_id
    assert re.fullmatch(KEY_PATTERN, key.reveal())
    assert len(key.reveal()) == 58


def test_a_secret_has_192_bits_that_all_count() -> None:
    secrets_of = {
        make_key("live", lambda size, at=at: (1 << at).to_bytes(24, "big")[-size:])[1].reveal()[19:-6]
        for at in range(192)
    }
    assert len(secrets_of) == 192


@given(st.text() | st.binary() | st.text(DIGITS + "_", min_size=58, max_size=58) | st.none() | st.integers())
def test_whatever_is_sent_reading_it_never_fails(sent: object) -> None:
    assert parse_key(sent) is None


@given(st.integers(0, 57), st.characters(), st.integers(0, 2**32))
def test_a_key_with_one_wrong_character_is_no_key(at: int, character: str, seed: int) -> None:
    _, key = make_key("live", random.Random(seed).randbytes)
    text = key.reveal()
    damaged = text[:at] + character + text[at + 1 :]
    if damaged != text:
        assert parse_key(damaged) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key.upper(),
        lambda key: key.replace("_", "-"),
        lambda key: key[:-1],
        lambda key: key * 160,
        lambda key: with_checksum(key[:-6].replace("live", "prod")),
        lambda key: key.replace("0", "\uff10"),
        lambda key: key.encode(),
    ],
)
def test_what_only_resembles_a_key_is_none(change: Callable[[str], object]) -> None:
    _, key = make_key("live", lambda size: bytes(range(size)))
    assert parse_key(change(key.reveal())) is None


@pytest.mark.parametrize(
    ("text", "key_id"),
    [
        ("1IYT0XLWR", "1IYT0XLWR"),
        (" 1IYT0XLWR\n", "1IYT0XLWR"),
        ("tpk_live_1IYT0XLWR", "1IYT0XLWR"),
        ("tpk_test_1IYT0XLWR_000A7dl5PEW67zZCpFU9uKaHnGgOvQKAR43DB9g", "1IYT0XLWR"),
        ("tpk_test_1IYT0XLWR_0004 and so on", "1IYT0XLWR"),
        ("1IYT0XLW", None),
        ("tpk_live_", None),
        ("\uff11IYT0XLWR", None),
        ("", None),
    ],
)
def test_an_operator_may_name_a_key_by_its_id_or_by_what_was_found_of_it(text: str, key_id: str | None) -> None:
    assert key_id_in(text) == key_id


# ---------------------------------------------------------------------------------------------------- issuing


def test_a_record_says_everything_about_a_key_but_the_key(clock: ManualClock) -> None:
    expires_at = NOON.astimezone(timezone(timedelta(hours=1))) + timedelta(days=90)
    issued = make(
        clock,
        caller="web",
        scopes=["chat", "admin", "chat"],
        rate_limit="5/second",
        expires_at=expires_at,
        note="first",
        environment="test",
    )
    key = issued.key.reveal()
    assert issued.record == KeyRecord(
        key_id=parse_key(key) or "",
        digest=hmac.digest(b"pepper-canary", key.encode(), "sha256"),
        pepper_id=hashlib.sha256(b"turnpike pepper id" + b"pepper-canary").hexdigest()[:8],
        tenant="acme",
        caller="web",
        scopes=("chat", "admin"),
        rate_limit="5/second",
        environment="test",
        created_at=NOON,
        expires_at=expires_at,
        note="first",
    )
    assert key.startswith("tpk_test_")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("tenant", "", "tenant must be printable"),
        ("tenant", " acme", "tenant must be printable"),
        ("tenant", "ac\nme", "tenant must be printable"),
        ("tenant", "\udc80", "tenant must be printable"),
        ("tenant", "a" * 201, "tenant must have at most 200"),
        ("tenant", None, "tenant must be printable"),
        ("caller", "", "caller must be printable"),
        ("note", "\x1b[2J", "note must be printable"),
        ("scopes", "chat", "list of names"),
        ("scopes", ["chat admin"], "without spaces"),
        ("scopes", [""], "scope must be printable"),
        ("rate_limit", "lots", "rate_limit is wrong: write a rate limit as '60/minute'"),
        ("rate_limit", 0, "at least 1 request"),
        ("environment", "prod", "'live' or 'test'"),
        ("expires_at", datetime(2027, 1, 1), "time zone"),  # noqa: DTZ001 - what is refused
        ("expires_at", NOON, "in the future"),
        ("pepper", Secret(""), "pepper must not be empty"),
    ],
)
def test_a_key_that_could_not_be_used_is_not_issued(
    clock: ManualClock, field: str, value: object, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(complaint)):
        make(clock, **{field: value})


def test_a_key_may_expire_at_the_end_of_all_dates(clock: ManualClock) -> None:
    last = datetime.max.replace(tzinfo=timezone(-timedelta(hours=12)))
    issued = make(clock, expires_at=last)
    assert store_of(clock, issued.record).find(issued.key.reveal()) is not None


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("digest", b"short", "digest must be 32 bytes"),
        ("digest", "a" * 32, "digest must be 32 bytes"),
        ("created_at", datetime(2026, 1, 1), "created_at must be a datetime with a time zone"),  # noqa: DTZ001
        ("created_at", None, "created_at must be a datetime"),
        ("expires_at", "2026-01-01T00:00:00Z", "expires_at must be a datetime"),
        ("revoked_at", datetime(2026, 1, 1), "revoked_at must be a datetime with a time zone"),  # noqa: DTZ001
    ],
)
def test_a_store_that_reads_its_records_wrongly_learns_it_from_the_first(
    issued: IssuedKey, field: str, value: object, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        msgspec.structs.replace(issued.record, **{field: value})


# ---------------------------------------------------------------------------------------------------- finding


def test_a_key_stands_for_what_its_record_says(clock: ManualClock) -> None:
    issued = make(clock, caller="web", scopes=["chat"], rate_limit=5)
    assert store_of(clock, issued.record).find(issued.key.reveal()) == Principal(
        tenant="acme", key_id=issued.record.key_id, caller="web", scopes=("chat",), rate_limit=RateLimit(5, 60)
    )


def test_text_that_is_no_key_is_refused_without_asking_for_a_record(clock: ManualClock, issued: IssuedKey) -> None:
    records = Records(issued.record)
    store = IssuedKeyStore(records, [PEPPER], clock=clock)
    key = issued.key.reveal()
    for sent in ("", "k", key[:-1] + ("0" if key[-1] != "0" else "1"), key + "0", "x" * 9000, "tpk_live_é", "\udc80"):
        assert store.find(sent) is None
    assert records.asked == []


@given(sent=st.text())
def test_any_text_is_nobody(sent: str) -> None:
    clock = ManualClock()
    assert store_of(clock, make(clock).record).find(sent) is None


def test_the_right_id_with_another_secret_is_nobody(clock: ManualClock, issued: IssuedKey) -> None:
    forged = with_checksum(f"tpk_live_{issued.record.key_id}_{'0' * 33}")
    assert store_of(clock, issued.record).find(forged) is None


def test_a_test_key_does_not_become_a_live_one(clock: ManualClock) -> None:
    issued = make(clock, environment="test")
    forged = with_checksum(issued.key.reveal()[:-6].replace("test", "live"))
    assert parse_key(forged) == issued.record.key_id
    assert store_of(clock, issued.record).find(forged) is None


def test_a_key_is_valid_until_the_moment_it_expires(clock: ManualClock) -> None:
    issued = make(clock, expires_at=NOON + timedelta(seconds=10))
    store = store_of(clock, issued.record)
    clock.now += 9.999
    assert store.find(issued.key.reveal()) is not None
    clock.now = NOON.timestamp() + 10
    assert store.find(issued.key.reveal()) is None


@pytest.mark.parametrize("revoked_at", [NOON - timedelta(days=1), NOON, NOON + timedelta(days=1)])
def test_a_revoked_key_is_nobody_even_where_clocks_disagree(
    clock: ManualClock, issued: IssuedKey, revoked_at: datetime
) -> None:
    record = msgspec.structs.replace(issued.record, revoked_at=revoked_at)
    assert store_of(clock, record).find(issued.key.reveal()) is None


@pytest.mark.parametrize("kind", ["known", "other secret", "unknown id", "unknown pepper", "expired"])
def test_all_well_formed_keys_take_the_same_path_and_are_compared_as_bytes(
    monkeypatch: pytest.MonkeyPatch, clock: ManualClock, kind: str
) -> None:
    issued = make(clock, pepper=Secret("other") if kind == "unknown pepper" else PEPPER)
    record, key = issued.record, issued.key.reveal()
    if kind == "other secret":
        key = with_checksum(f"tpk_live_{record.key_id}_{'0' * 33}")
    if kind == "expired":
        record = msgspec.structs.replace(record, expires_at=NOON)
    store = store_of(clock, *(() if kind == "unknown id" else (record,)))
    path: list[object] = []
    digest = hmac.digest

    def compare_digest(a: bytes, b: bytes) -> bool:
        path.append(("compare", type(a), len(a), type(b), len(b)))
        return a == b

    def counted_digest(*arguments: Any) -> bytes:
        path.append("digest")
        return digest(*arguments)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    monkeypatch.setattr(hmac, "digest", counted_digest)
    assert (store.find(key) is not None) == (kind == "known")
    assert path == ["digest", ("compare", bytes, 32, bytes, 32)]


def test_a_flood_of_unknown_keys_leaves_nothing_behind(clock: ManualClock, issued: IssuedKey) -> None:
    class Known:
        def get(self, key_id: str) -> KeyRecord | None:
            return issued.record if key_id == issued.record.key_id else None

    store = IssuedKeyStore(Known(), [PEPPER], clock=clock)
    store.find(issued.key.reveal())
    tracemalloc.start()
    try:
        for number in range(20_000):
            assert store.find(with_checksum(f"tpk_live_{number:09d}_{'0' * 33}")) is None
        # Other threads may allocate meanwhile, so only what the boundary itself holds is looked at.
        folder = Path(issued_keys.__file__).parent
        held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, str(folder / "*"))])
        assert sum(trace.size for trace in held.traces) < 10_000
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------- peppers


def test_peppers_rotate_while_keys_stay_valid(clock: ManualClock, issued: IssuedKey) -> None:
    newer = Secret("newer")
    later = make(clock, pepper=newer)
    store = store_of(clock, issued.record, later.record, peppers=(newer, PEPPER))
    assert later.record.pepper_id == pepper_id_of(newer) != pepper_id_of(PEPPER)
    assert store.find(issued.key.reveal()) is not None
    assert store.find(later.key.reveal()) is not None


def test_a_key_whose_pepper_was_taken_away_is_refused_and_the_log_names_the_pepper_once(
    clock: ManualClock, issued: IssuedKey, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(clock, issued.record, peppers=(Secret("newer"),))
    assert [store.find(issued.key.reveal()) for _ in range(3)] == [None] * 3
    [message] = caplog.messages
    assert pepper_id_of(PEPPER) in message
    assert "TURNPIKE_KEY_PEPPERS" in message


def test_records_may_bring_a_pepper_of_their_own(clock: ManualClock, issued: IssuedKey) -> None:
    class Peppered(Records):
        def find_pepper(self, pepper_id: str) -> Secret | None:
            return PEPPER if pepper_id == pepper_id_of(PEPPER) else None

    unknown = make(clock, pepper=Secret("other"))
    store = IssuedKeyStore(Peppered(issued.record), clock=clock)
    assert store.find(issued.key.reveal()) is not None
    assert store.find(unknown.key.reveal()) is None


@pytest.mark.parametrize(("peppers", "complaint"), [([], "TURNPIKE_KEY_PEPPERS"), ([Secret("")], "must not be empty")])
def test_a_store_without_a_pepper_says_how_to_make_one(peppers: list[Secret], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        IssuedKeyStore(Records(), peppers)


def test_a_pepper_may_hold_what_is_not_utf_8() -> None:
    assert digest_of("k", Secret("\udcff")) == hmac.digest(b"\xed\xb3\xbf", b"k", "sha256")
    assert len(pepper_id_of(Secret("\udcff"))) == 8


# ---------------------------------------------------------------------------------------------------- broken records


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("rate_limit", "lots", "write a rate limit as"),
        ("rate_limit", "0/minute", "at least 1"),
        ("rate_limit", [60], "write a rate limit as"),
        ("tenant", "", "tenant"),
        ("tenant", None, "tenant"),
        ("caller", 7, "caller"),
        ("scopes", "chat", "scopes"),
        ("scopes", None, "scopes"),
    ],
)
def test_a_broken_record_refuses_its_own_key_and_says_why_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, field: str, value: object, complaint: str
) -> None:
    whole, broken = make(clock), make(clock)
    store = store_of(clock, whole.record, msgspec.structs.replace(broken.record, **{field: value}))
    assert [store.find(broken.key.reveal()) for _ in range(3)] == [None] * 3
    assert store.find(whole.key.reveal()) is not None
    [message] = caplog.messages
    assert f"key {broken.record.key_id} is refused" in message
    assert complaint in message


def test_a_record_from_a_table_may_have_a_list_of_scopes_and_a_number_for_a_limit(clock: ManualClock) -> None:
    issued = make(clock)
    record = msgspec.structs.replace(issued.record, scopes=["chat"], rate_limit=7)
    found = store_of(clock, record).find(issued.key.reveal())
    assert found is not None
    assert (found.scopes, found.rate_limit) == (("chat",), RateLimit(7, 60))


# ---------------------------------------------------------------------------------------------------- waiting


@pytest.mark.anyio
async def test_records_that_can_be_awaited_are_awaited(clock: ManualClock, issued: IssuedKey) -> None:
    class Awaited(Records):
        async def get_async(self, key_id: str) -> KeyRecord | None:
            return self.by_id.get(key_id)

    records = Awaited(issued.record)
    store = IssuedKeyStore(records, [PEPPER], clock=clock)
    assert await store.find_async(issued.key.reveal()) is not None
    assert records.asked == []


@pytest.mark.anyio
async def test_records_that_block_are_asked_for_in_another_thread_and_only_for_keys(
    clock: ManualClock, issued: IssuedKey
) -> None:
    threads: list[int] = []

    class Blocking(Records):
        blocking = True

        def get(self, key_id: str) -> KeyRecord | None:
            threads.append(threading.get_ident())
            return super().get(key_id)

    store = IssuedKeyStore(Blocking(issued.record), [PEPPER], clock=clock)
    assert await store.find_async("garbage") is None
    assert threads == []
    assert await store.find_async(issued.key.reveal()) is not None
    assert threads != [threading.get_ident()]
    assert store.find(issued.key.reveal()) is not None
    assert threads[1:] == [threading.get_ident()]


@pytest.mark.anyio
async def test_records_that_answer_at_once_are_asked_where_the_request_runs(
    clock: ManualClock, issued: IssuedKey
) -> None:
    store = store_of(clock, issued.record)
    assert await store.find_async(issued.key.reveal()) == store.find(issued.key.reveal()) != None  # noqa: E711


# ---------------------------------------------------------------------------------------------------- canaries


def test_no_key_and_no_pepper_leaves_by_another_door(
    clock: ManualClock, issued: IssuedKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = issued.key.reveal()
    broken = msgspec.structs.replace(issued.record, rate_limit="lots")
    stores = [
        store_of(clock, issued.record),
        store_of(clock, broken),
        store_of(clock, issued.record, peppers=(Secret("other-canary"),)),
    ]
    shown = [repr(store.find(key)) for store in stores]
    for thing in (issued, issued.key, issued.record, *stores):
        shown += [repr(thing), str(thing), f"{thing}", _pickled(thing)]
    with pytest.raises(ConfigurationError) as caught:
        make(clock, pepper=Secret("other-canary"), rate_limit="lots")
    shown += [repr(caught.value), caplog.text]
    told = "\n".join(shown)
    for canary in (key, key[19:], "pepper-canary", "other-canary"):
        assert canary not in told
    assert repr(issued.record.digest) not in repr(issued)


def _pickled(thing: object) -> str:
    try:
        return repr(pickle.dumps(thing))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        return repr(error)
