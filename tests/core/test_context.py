"""Attribution: bound for a block, inherited inside it, handed to threads, never invented."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from turnpike import LLMRequestContext, bind, current_context, detached, propagate
from turnpike.context import current_binding
from turnpike.errors import UnattributedError

ADA = LLMRequestContext(tenant_id="acme", caller_id="ada")


def tenant() -> str | None:
    return current_context(LLMRequestContext()).tenant_id


class TestTheFields:
    def test_are_the_published_ones(self) -> None:
        assert [field.name for field in dataclasses.fields(LLMRequestContext)] == [
            "tenant_id",
            "caller_id",
            "use_case",
            "session_id",
            "task_id",
            "feature_id",
            "experiment_id",
            "budget_namespace",
        ]
        assert LLMRequestContext() == LLMRequestContext(None, None)

    def test_hold_text_or_nothing_and_do_not_change(self) -> None:
        with pytest.raises(TypeError, match=r"LLMRequestContext\.session_id must be a str or None; got int"):
            LLMRequestContext(session_id=5)  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            ADA.tenant_id = "evil"  # type: ignore[misc]

    def test_become_audit_tags_without_tenant_caller_and_use_case(self) -> None:
        every = LLMRequestContext(*[f"v{number}" for number in range(8)])

        assert every.to_audit_tags() == {
            "session_id": "v3",
            "task_id": "v4",
            "feature_id": "v5",
            "experiment_id": "v6",
            "budget_namespace": "v7",
        }
        assert ADA.to_audit_tags() == {}

    @pytest.mark.parametrize("metadata", [None, {}, {"other": 1}])
    def test_can_be_absent_from_metadata(self, metadata: Any) -> None:
        assert LLMRequestContext.from_metadata(metadata) == LLMRequestContext()

    def test_are_read_from_metadata_as_text(self) -> None:
        read = LLMRequestContext.from_metadata({"tenant_id": "acme", "task_id": 5, "session_id": None, "x": "y"})

        assert read == LLMRequestContext(tenant_id="acme", task_id="5")

    def test_go_over_others_one_by_one(self) -> None:
        assert LLMRequestContext(use_case="x", caller_id="bob").over(ADA) == LLMRequestContext("acme", "bob", "x")
        # An empty name names nobody, and must not displace somebody.
        assert LLMRequestContext(use_case="").over(LLMRequestContext(use_case="x")).use_case == "x"


class TestBinding:
    def test_holds_for_its_block_and_is_inherited_inside(self) -> None:
        with bind(ADA, route="/chat") as bound:
            assert current_context() == bound == ADA
            with bind(feature_id="search", caller_id="bob") as inner:
                assert inner == LLMRequestContext("acme", "bob", feature_id="search")
                assert current_binding().route == "/chat"
            with bind(route="/other"):
                assert (current_context(), current_binding().route) == (ADA, "/other")
            assert current_context() == ADA
        assert current_binding() is None

    def test_ends_with_an_error_too(self) -> None:
        with pytest.raises(ZeroDivisionError), bind(ADA):
            _ = 1 / 0
        assert current_binding() is None

    def test_takes_a_context_or_fields_and_not_both(self) -> None:
        with pytest.raises(TypeError, match="not both"), bind(ADA, caller_id="bob"):
            pass
        with pytest.raises(TypeError, match="tenant"), bind(tenant="acme"):
            pass
        assert current_binding() is None

    def test_is_absent_where_nobody_is_bound_and_nobody_is_invented(self) -> None:
        with pytest.raises(UnattributedError, match=r"turnpike\.bind"):
            current_context()
        assert current_context(None) is None  # type: ignore[arg-type]
        assert current_context(ADA) is ADA

    def test_detached_keeps_the_identity_and_leaves_the_request_s_scope(self) -> None:
        scope = object()
        with bind(ADA, route="/chat", streams=scope):
            with detached():
                binding = current_binding()
                assert (binding.context, binding.route, binding.streams) == (ADA, "/chat", None)
            assert current_binding().streams is scope
        with detached():
            assert current_binding() is None

    @pytest.mark.anyio
    async def test_belongs_to_its_task(self) -> None:
        async def work(name: str) -> str | None:
            with bind(tenant_id=name):
                await asyncio.sleep(0)
                return tenant()

        with bind(ADA):
            assert await asyncio.gather(*map(work, "abc")) == ["a", "b", "c"]
            assert await asyncio.create_task(asyncio.sleep(0, tenant())) == "acme"
            assert await asyncio.to_thread(tenant) == "acme"
            assert tenant() == "acme"


class TestPropagate:
    def test_hands_the_identity_to_a_thread(self) -> None:
        found: list[str | None] = []
        with bind(ADA):
            threads = [
                threading.Thread(target=lambda: found.append(tenant())),
                threading.Thread(target=propagate(lambda: found.append(tenant()))),
            ]
        for thread in threads:
            thread.start()
            thread.join()

        assert found == [None, "acme"]

    def test_keeps_name_arguments_and_result(self) -> None:
        def work(a: int, *, b: int) -> tuple[int, int]:
            """Add nothing."""
            return a, b

        assert propagate(work)(1, b=2) == (1, 2)
        assert propagate(work).__name__ == "work"

    def test_can_be_called_at_once_and_again(self) -> None:
        barrier = threading.Barrier(4)

        def work() -> str | None:
            barrier.wait(5)
            return tenant()

        with bind(ADA):
            handed = propagate(work)
        with ThreadPoolExecutor(4) as pool:
            assert [future.result() for future in [pool.submit(handed) for _ in range(8)]] == ["acme"] * 8

    def test_calls_do_not_see_each_other_s_changes(self) -> None:
        variable = contextvars.ContextVar("variable", default=0)

        def work() -> int:
            before = variable.get()
            variable.set(before + 1)
            return before

        handed = propagate(work)
        assert [handed(), handed()] == [0, 0]
