"""One gateway in several processes, threads and event loops: connections are never shared, prompts never sent twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from turnpike import AnthropicProvider, Gateway, OpenAIProvider
from turnpike.errors import ClientReuseError, ConfigurationError
from turnpike.testing.simulator import Simulator

from .conftest import MODELS, MemoryLedger, ledger_of, settings_for


def prompts_of(simulator: Simulator) -> Counter[str]:
    """How often each prompt was received."""
    return Counter(json.dumps(request.body["messages"][-1]["content"]) for request in simulator.requests())


def run_script(code: str, *arguments: str) -> list[Any]:
    """Run ``code`` in an interpreter of its own and return the JSON lines that it prints."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


FORKING = """
    import json, os, sys
    from turnpike import Gateway, bind

    settings = json.loads(sys.argv[1])
    gateway = Gateway(settings)
    with bind(tenant_id="acme"):
        gateway.call_sync("warm up", model="gpt-4o-mini")

        def work(who, start):
            start_reader, start_writer = start
            os.close(start_writer)
            os.read(start_reader, 1)  # all begin at once: end of file when the parent closes its end
            answers = {}
            for number in range(20):
                prompt = f"{who} {number}"
                if number % 2:
                    answers[prompt] = gateway.call_sync(prompt, model="gpt-4o-mini").text
                else:
                    answers[prompt] = "".join(map(str, gateway.stream_sync(prompt, model="gpt-4o-mini")))
            return answers

        start = os.pipe()
        pipes, children = [], []
        for who in ("first", "second"):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    os.write(writer, json.dumps(work(who, start)).encode())
                    code = 0
                finally:
                    os._exit(code)
            os.close(writer)
            pipes.append(reader)
            children.append(pid)
        answers = work("parent", start)
        print(json.dumps(answers))
        for pid, reader in zip(children, pipes):
            with os.fdopen(reader) as pipe:
                print(pipe.read())
            assert os.waitpid(pid, 0)[1] == 0
    gateway.close()
"""


def test_forked_children_and_their_parent_each_get_their_own_answers(
    simulator: Simulator, gateway: Gateway, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    settings = settings_for(simulator, telemetry_path=str(path))
    parts = run_script(FORKING, json.dumps(settings))
    answers = {prompt: text for part in parts for prompt, text in part.items()}
    sent = prompts_of(simulator)

    assert len(answers) == 60
    assert set(sent.values()) == {1}
    assert len(sent) == 61
    bills = simulator.bills()
    expected = {prompt: gateway.call_sync(prompt, model="gpt-4o-mini").text for prompt in answers}
    assert answers == expected
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["request_id"] for line in lines}) == len(lines) == 61
    assert sum(line["cost_nano_usd"] for line in lines) == sum(bill.cost_nano_usd for bill in bills)
    assert {line["status"] for line in lines} == {"success"}


def test_async_clients_of_the_parent_stay_with_the_parent(simulator: Simulator) -> None:
    code = """
        import asyncio, json, os, sys
        from turnpike import Gateway, bind

        gateway = Gateway(json.loads(sys.argv[1]))

        async def work(who):
            for number in range(5):
                with bind(tenant_id=who):
                    await gateway.call(f"{who} {number}", model="gpt-4o-mini")
            await gateway.aclose()

        asyncio.run(work("before"))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(work("child"))
                code = 0
            finally:
                os._exit(code)
        asyncio.run(work("parent"))
        assert os.waitpid(pid, 0)[1] == 0
    """
    run_script(code, json.dumps(settings_for(simulator, ledger=False)))

    assert set(prompts_of(simulator).values()) == {1}
    assert len(prompts_of(simulator)) == 15


@pytest.mark.parametrize("provider", ["chat", "claude"])
def test_a_second_event_loop_works_and_sends_each_prompt_once(simulator: Simulator, provider: str) -> None:
    ledger = MemoryLedger()
    gateway = Gateway(settings_for(simulator), ledger=ledger)
    options: dict[str, Any] = next(model for model in MODELS.values() if model["provider"] == provider)

    async def main(number: int) -> None:
        await gateway.call(f"call {number}", **options)
        async for _ in gateway.stream(f"stream {number}", **options):
            continue
        await gateway.aclose()

    for number in range(3):
        asyncio.run(main(number))
    assert set(prompts_of(simulator).values()) == {1}
    assert len(ledger.raw) == len(simulator.requests()) == 6
    assert {envelope.retry_count for envelope in ledger.envelopes} == {0}


LOOPS = 12


@pytest.fixture(scope="module")
def ended() -> dict[str, Any]:
    code = """
        import asyncio, gc, json, os, sys
        from turnpike import Gateway, bind

        gateway = Gateway(json.loads(sys.argv[1]))
        descriptors = []
        with bind(tenant_id="acme"):
            for number in range(int(sys.argv[2])):
                assert asyncio.run(gateway.call(f"call {number}", model="gpt-4o-mini")).text
                gc.collect()
                descriptors.append(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0)
        print(json.dumps(descriptors))
    """
    with Simulator() as simulator:
        arguments = [json.dumps(settings_for(simulator, ledger=False)), str(LOOPS)]
        # Python reports the connections that such loops leave open, so its warnings are not errors here.
        command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return {"descriptors": json.loads(done.stdout), "errors": done.stderr, "prompts": prompts_of(simulator)}


class TestLoopsThatEndWithoutClosingTheGateway:
    """Frameworks that run each asynchronous view in a loop of its own never get to close anything."""

    def test_do_not_disturb_the_next(self, ended: dict[str, Any]) -> None:
        assert set(ended["prompts"].values()) == {1}
        assert len(ended["prompts"]) == LOOPS
        assert "Traceback" not in ended["errors"]

    def test_do_not_leave_their_connections_behind(self, ended: dict[str, Any]) -> None:
        descriptors = ended["descriptors"]

        assert descriptors[-1] - descriptors[1] < 4, descriptors


def test_loops_in_several_threads_can_use_one_gateway_at_once(simulator: Simulator) -> None:
    ledger = MemoryLedger()
    gateway = Gateway(settings_for(simulator), ledger=ledger)

    async def main(thread: int) -> None:
        await asyncio.gather(*[gateway.call(f"{thread} {n}", model="gpt-4o-mini") for n in range(10)])
        await gateway.aclose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda thread: asyncio.run(main(thread)), range(4)))
    assert set(prompts_of(simulator).values()) == {1}
    assert len(ledger.raw) == len(simulator.requests()) == 40


def test_sync_calls_of_many_threads_share_one_gateway(make_gateway: Any, simulator: Simulator) -> None:
    gateway = make_gateway()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: gateway.call_sync(f"prompt {n}", model="gpt-4o-mini"), range(80)))

    assert set(prompts_of(simulator).values()) == {1}
    assert {result.request_id for result in results} == {e.request_id for e in ledger_of(gateway).envelopes}


def test_call_sync_inside_a_running_loop_works_and_warns_once(make_gateway: Any) -> None:
    gateway = make_gateway()

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=r"await gateway\.call") as caught:
            answers = [gateway.call_sync("Hello", model="gpt-4o-mini").text for _ in range(2)]
        assert all(answers)
        assert len(caught) == 1
        assert caught[0].filename == __file__

    asyncio.run(main())


class TestAClientOfTheUsersOwn:
    def test_is_refused_in_another_loop_before_anything_is_sent(self, simulator: Simulator) -> None:
        import openai

        ledger = MemoryLedger()
        gateway = Gateway({}, ledger=ledger)
        own = openai.AsyncOpenAI(base_url=simulator.openai_base_url, api_key="k")
        gateway.register_provider("mine", OpenAIProvider(client=own))
        options = {"provider": "mine", "model": "gpt-4o-mini", "route": "/x"}
        gateway.register_route_policy("/x", _policy())

        async def first() -> None:
            await gateway.call("first", **options)
            await own.close()

        async def second() -> None:
            with pytest.raises(ClientReuseError, match="event loop"):
                await gateway.call("second", **options)
            with pytest.raises(ClientReuseError, match="event loop"):
                gateway.stream("third", **options)

        asyncio.run(first())
        asyncio.run(second())
        assert len(simulator.requests()) == len(ledger.raw) == 1

    def test_is_refused_in_another_loop_even_for_a_stream_opened_outside_of_it(self, simulator: Simulator) -> None:
        import openai

        ledger = MemoryLedger()
        gateway = Gateway({}, ledger=ledger)
        own = openai.AsyncOpenAI(base_url=simulator.openai_base_url, api_key="k")
        gateway.register_provider("mine", OpenAIProvider(client=own))
        gateway.register_route_policy("/x", _policy())
        options = {"provider": "mine", "model": "gpt-4o-mini", "route": "/x"}

        async def first() -> None:
            await gateway.call("first", **options)
            await own.close()

        async def read(stream: Any) -> None:
            async for _ in stream:
                continue

        asyncio.run(first())
        with pytest.raises(ClientReuseError):
            asyncio.run(read(gateway.stream("second", **options)))
        assert len(simulator.requests()) == 1
        assert [envelope.status for envelope in ledger.envelopes] == ["ok", "error"]
        assert ledger.envelopes[1].cost_nano_usd == 0

    def test_is_refused_in_another_process_before_anything_is_sent(self, simulator: Simulator) -> None:
        code = """
            import os, sys
            import openai
            from turnpike import Gateway, OpenAIProvider, RoutePolicy
            from turnpike.errors import ClientReuseError

            own = openai.OpenAI(base_url=sys.argv[1], api_key="k")
            gateway = Gateway({"ledger": False})
            gateway.register_provider("mine", OpenAIProvider(sync_client=own))
            gateway.register_route_policy("/x", RoutePolicy(100, 0, False, {}, "mine"))
            gateway.call_sync("first", model="gpt-4o-mini", route="/x")
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    gateway.call_sync("second", model="gpt-4o-mini", route="/x")
                except ClientReuseError as error:
                    code = 0 if "process" in str(error) else 2
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            gateway.call_sync("third", model="gpt-4o-mini", route="/x")
        """
        command = [sys.executable, "-c", textwrap.dedent(code), simulator.openai_base_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        assert done.returncode == 0, done.stderr
        assert prompts_of(simulator) == {'"first"': 1, '"third"': 1}

    def test_that_only_blocks_cannot_be_awaited_and_the_other_way_round(self, simulator: Simulator) -> None:
        import anthropic
        import openai

        gateway = Gateway({}, ledger=MemoryLedger())
        gateway.register_route_policy("/x", _policy())
        options = {"model": "gpt-4o-mini", "route": "/x"}
        with anthropic.Anthropic(base_url=simulator.anthropic_base_url, api_key="k") as blocking:
            gateway.register_provider("blocking", AnthropicProvider(client=blocking))
            with pytest.raises(ConfigurationError, match="call_sync"):
                asyncio.run(gateway.call("Hello", provider="blocking", **options))
            assert gateway.call_sync("Hello", provider="blocking", **options).text

        async def main() -> None:
            async with openai.AsyncOpenAI(base_url=simulator.openai_base_url, api_key="k") as awaiting:
                gateway.register_provider("awaiting", OpenAIProvider(client=awaiting))
                with pytest.raises(ConfigurationError, match="await"):
                    await asyncio.to_thread(gateway.call_sync, "Hello", provider="awaiting", **options)
                assert (await gateway.call("Hello", provider="awaiting", **options)).text

        asyncio.run(main())
        assert len(simulator.requests()) == 2

    def test_must_be_a_client(self) -> None:
        with pytest.raises(ConfigurationError, match="AsyncOpenAI"):
            OpenAIProvider(client="sk-canary")


def _policy() -> Any:
    from turnpike import RoutePolicy

    return RoutePolicy(100, 0, False, {}, "mine")
