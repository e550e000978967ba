"""Keys: found by digest, kept by digest, and never seen again."""

from __future__ import annotations

import gc
import hmac
import pickle
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnpike.boundary import keys
from turnpike.boundary.keys import Principal, SettingsKeyStore, is_key
from turnpike.errors import SettingsError
from turnpike.secret import Secret
from turnpike.settings import ApiKeySettings, RateLimit

KEY = "k-acme-canary"


def entry(key: str | None = KEY, tenant: str = "acme", **fields: object) -> ApiKeySettings:
    return ApiKeySettings(tenant=tenant, key=None if key is None else Secret(key), **fields)  # type: ignore[arg-type]


def test_a_key_stands_for_the_principal_that_the_settings_name() -> None:
    store = SettingsKeyStore([entry(caller="web", scopes=("llm:call",), rate_limit="5/second")])
    assert store.find(KEY) == Principal(
        tenant="acme", caller="web", scopes=("llm:call",), rate_limit=RateLimit(5, 1), key_id="acme/web#1"
    )


def test_two_keys_of_one_tenant_are_two_principals() -> None:
    store = SettingsKeyStore([entry("a"), entry("b")])
    first, second = store.find("a"), store.find("b")
    assert first is not None
    assert second is not None
    assert first.key_id != second.key_id


@pytest.mark.parametrize(
    "wrong", ["", "k-acme-canar", "k-acme-canary ", "K-ACME-CANARY", "k-acme-canary,k", "\0", "é", "\udc80"]
)
def test_anything_else_is_nobody(wrong: str) -> None:
    assert SettingsKeyStore([entry()]).find(wrong) is None


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128).filter(is_key))
def test_whatever_printable_text_an_operator_chose_is_a_key(key: str) -> None:
    assert SettingsKeyStore([entry(key)]).find(key) is not None


@given(st.text())
def test_a_key_is_1_to_128_printable_ascii_characters_without_spaces_around_them(text: str) -> None:
    expected = 1 <= len(text) <= 128 and text.isascii() and text.isprintable() and text == text.strip()
    assert is_key(text) == expected


@pytest.mark.parametrize("key", ["", " k", "k ", "k\n", "kéy", "k" * 129])
def test_a_key_that_no_request_could_send_is_a_settings_error_that_does_not_repeat_it(key: str) -> None:
    with pytest.raises(SettingsError, match=r"api_keys\[1\].key' must be 1 to 128 printable ASCII") as caught:
        SettingsKeyStore([entry(), entry(key)])
    assert not key or key not in str(caught.value)


def test_the_same_key_twice_is_a_settings_error_that_names_both_entries_and_not_the_key() -> None:
    with pytest.raises(SettingsError, match=r"'api_keys\[0\]' and 'api_keys\[2\]' hold the same key") as caught:
        SettingsKeyStore([entry(), entry("other"), entry(tenant="rival")])
    assert KEY not in str(caught.value)


def test_a_key_may_live_in_a_variable() -> None:
    store = SettingsKeyStore([entry(None, key_env="ACME_KEY")], {"ACME_KEY": KEY})
    assert store.find(KEY) is not None


@pytest.mark.parametrize("environ", [{}, {"ACME_KEY": ""}])
def test_a_variable_that_is_not_set_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"variable ACME_KEY, .*'api_keys\[0\].key_env'.* is not set"):
        SettingsKeyStore([entry(None, key_env="ACME_KEY")], environ)


def test_an_entry_with_neither_key_nor_variable_is_named() -> None:
    with pytest.raises(SettingsError, match=r"'api_keys\[0\]' needs exactly one of key and key_env"):
        SettingsKeyStore([entry(None)])


def test_a_wrong_limit_is_named() -> None:
    with pytest.raises(SettingsError, match=r"'api_keys\[0\].rate_limit': a rate limit must allow"):
        SettingsKeyStore([entry(rate_limit=0)])


def test_the_store_holds_no_key_and_no_plain_hash_of_one() -> None:
    first, second = (SettingsKeyStore([entry()]) for _ in range(2))
    reachable = repr([gc.get_referents(store) for store in (first, second)])
    assert KEY not in reachable
    assert first._records.keys().isdisjoint(second._records)
    with pytest.raises(TypeError):
        pickle.dumps(Secret(KEY))


@pytest.mark.parametrize("key", [KEY, "unknown"])
def test_known_and_unknown_keys_take_the_same_path_and_are_compared_as_bytes(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    compared: list[tuple[type, type]] = []

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((type(a), type(b)))
        return a == b

    store = SettingsKeyStore([entry()])
    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    store.find(key)
    assert compared == [(bytes, bytes)]


def test_a_flood_of_unknown_keys_leaves_nothing_behind() -> None:
    store = SettingsKeyStore([entry()])
    store.find("warm-up")
    tracemalloc.start()
    try:
        for number in range(20_000):
            store.find(f"random-{number}")
        # Other threads may allocate meanwhile, so only what the store's own module holds is looked at.
        held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, keys.__file__)])
        assert sum(trace.size for trace in held.traces) < 10_000
    finally:
        tracemalloc.stop()
