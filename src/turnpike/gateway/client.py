"""The gateway: the one door through which LLM calls leave the process."""

from __future__ import annotations

import logging
import os
import random
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, Unpack

from opentelemetry import context as otel_context

from turnpike.clock import SYSTEM_CLOCK, Clock
from turnpike.context import LLMRequestContext, current_binding
from turnpike.errors import SettingsError, UnknownProviderError
from turnpike.fork import reset_in_child
from turnpike.gateway import policies, telemetry
from turnpike.gateway.cost_model import DEFAULT_BOOK, preload_pricing
from turnpike.gateway.effects import AsyncEffects, Effects, SyncEffects, in_event_loop, run_sync
from turnpike.gateway.options import CallOptions, Message, Prompt
from turnpike.gateway.pipeline import StreamRun, run_call
from turnpike.gateway.plan import Planner
from turnpike.gateway.policies import RoutePolicy
from turnpike.gateway.provider import (
    AnthropicProvider,
    OpenAIProvider,
    WireProvider,
    check_provider,
    get_provider,
)
from turnpike.gateway.record import CallPlan, CallRecord
from turnpike.gateway.result import CallResult, GatewayResult, StreamChunk
from turnpike.gateway.services import LineSink, Services
from turnpike.gateway.stream import GatewayStream, GatewayStreamSync
from turnpike.gateway.telemetry import CallTelemetry
from turnpike.ledger.writer import LedgerWriter
from turnpike.pricing import PriceBook
from turnpike.settings import ProviderSettings, Settings
from turnpike.warm_up import warm_up_in_background

__all__ = [
    "CallResult",
    "Gateway",
    "GatewayResult",
    "GatewayStream",
    "GatewayStreamSync",
    "StreamChunk",
    "call_llm",
    "call_llm_stream",
    "default_gateway",
]

ModelTier: TypeAlias = str
GatewayRouteName: TypeAlias = str

_log = logging.getLogger("turnpike.gateway")


class Gateway:
    """Sends calls to providers and leaves one envelope for each, in the ledger and in OpenTelemetry.

    A gateway owns its settings, providers, policies, prices and sinks; two gateways in one process share none of them. It
    is safe to use from many threads, tasks, event loops and forked processes at once.

    Args:
        settings: ``Settings``, or a mapping over which the environment is laid; ``None`` is the environment alone.
        prices: a price book of its own; by default a new one.
        ledger: where lines go; by default the file that the settings name.
        tracer_provider: by default OpenTelemetry's global one; the same goes for ``meter_provider``.
        clock: source of time.
        rng: source of request ids and of the jitter between attempts.

    Raises:
        SettingsError: naming the setting that is wrong.
    """

    def __init__(
        self,
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        prices: PriceBook | None = None,
        ledger: LineSink | None = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.settings: Settings = Settings.load(settings)
        self._providers: dict[str, Any] = {}
        self._policies: dict[str, RoutePolicy] = {}
        if ledger is None and self.settings.ledger:
            ledger = LedgerWriter(self.settings.telemetry_path)
        services = Services(
            prices=prices if prices is not None else PriceBook(clock=clock),
            telemetry=CallTelemetry(tracer_provider=tracer_provider, meter_provider=meter_provider),
            ledger=ledger,
            clock=clock,
        )
        if rng is not None:
            services.rng = rng
        self._services = services
        self._planner = Planner(self.settings, self._registered_policies, self._find_provider, services.rng)
        self._lock = threading.Lock()
        self._is_started = False
        reset_in_child(self)
        self._warned_blocking = False
        warm_up_in_background(self._warm_up_tasks())

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def _warm_up_tasks(self) -> list[Callable[[], object]]:
        kinds = {written.type or name for name, written in self.settings.providers.items()}
        return [preload_pricing, *(partial(import_module, kind) for kind in sorted(kinds))]

    # ------------------------------------------------------------------------------------------------- calls

    async def call(self, prompt: Prompt, /, **options: Unpack[CallOptions]) -> CallResult:
        """Answer ``prompt`` and return the answer with its envelope.

        Args:
            prompt: the user's message, or a conversation.
            options: see ``CallOptions``; one of ``tier`` and ``model`` says which model is meant.

        Raises:
            InvalidRequestError: if the prompt or an option is wrong.
            ConfigurationError: if route, tier, provider, key or an SDK is missing.
            LedgerError: if the ledger cannot be opened. Up to here nothing has been sent.
            ProviderError: if the provider failed; ``error.envelope`` is the call's envelope.
        """
        record = self._open(prompt, options, stream=False, sync=False)
        return await run_call(record, AsyncEffects())

    def call_sync(self, prompt: Prompt, /, **options: Unpack[CallOptions]) -> CallResult:
        """Do what ``call`` does, blocking, over the SDK's synchronous client. Needs no event loop."""
        self._warn_if_blocking("call_sync", "call")
        record = self._open(prompt, options, stream=False, sync=True)
        return run_sync(run_call(record, SyncEffects()))

    def stream(self, prompt: Prompt, /, **options: Unpack[CallOptions]) -> GatewayStream:
        """Open a streamed answer, to be read with ``async for``.

        The call is opened, and the identity and the span's parent are captured, now; the request is sent when the first
        chunk is asked for. Arguments and errors as for ``call``: those of the provider are raised while reading.
        """
        stream = GatewayStream(self._open_stream(prompt, options, sync=False))
        stream.join_scope()
        return stream

    def stream_sync(self, prompt: Prompt, /, **options: Unpack[CallOptions]) -> GatewayStreamSync:
        """Do what ``stream`` does for synchronous code, to be read with ``for``."""
        self._warn_if_blocking("stream_sync", "stream")
        stream = GatewayStreamSync(self._open_stream(prompt, options, sync=True))
        stream.join_scope()
        return stream

    def _open_stream(self, prompt: Any, options: Mapping[str, Any], *, sync: bool) -> StreamRun:
        effects: Effects = SyncEffects() if sync else AsyncEffects()
        run = StreamRun(self._open(prompt, options, stream=True, sync=sync), effects)
        self._services.open_streams.add(run)
        return run

    def _open(self, prompt: Any, options: Mapping[str, Any], *, stream: bool, sync: bool) -> CallRecord:
        """Plan a call, make sure that it can be made and recorded, and open it."""
        plan = self._planner.plan(prompt, options, current_binding(), stream=stream)
        self._check(plan, sync=sync)
        services = self._services
        services.drain()
        record = CallRecord(plan, services)
        record.open(otel_context.get_current())
        return record

    def _check(self, plan: CallPlan, *, sync: bool) -> None:
        if not self._is_started:
            self._start()
        # A stream may be opened where no loop runs yet; it is checked again when it is sent.
        if plan.api is not None and (sync or in_event_loop()):
            plan.provider.connect(sync=sync)

    def _start(self) -> None:
        """Find out, before the first call, what would make every call fail."""
        if self._services.ledger is not None:
            self._services.ledger.check()
        self._is_started = True

    def _warn_if_blocking(self, blocking: str, awaitable: str) -> None:
        if not self._warned_blocking and in_event_loop():
            self._warned_blocking = True
            warnings.warn(
                f"{blocking}() blocks the running event loop: use 'await gateway.{awaitable}(...)' here, or a def handler.",
                RuntimeWarning,
                stacklevel=3,
            )

    # --------------------------------------------------------------------------------------------- registration

    def register_provider(self, name: str, provider: Any) -> None:
        """Use ``provider`` for calls that name ``name``, in place of what the settings say.

        Raises:
            ConfigurationError: if it is no provider.
        """
        check_provider(name, provider)
        if isinstance(provider, WireProvider):
            provider.name = name
        self._providers[name] = provider

    def _registered_policies(self) -> Mapping[str, RoutePolicy]:
        return self._policies

    def register_route_policy(self, route: str, policy: RoutePolicy) -> None:
        """Set the policy of ``route``, in place of what the settings say."""
        self._policies[route] = policy

    @property
    def prices(self) -> PriceBook:
        """This gateway's prices; ``gateway.prices.register(...)`` adds one."""
        return self._services.prices

    def _find_provider(self, name: str) -> Any:
        provider = self._providers.get(name)
        if provider is not None:
            return provider
        written = self.settings.providers.get(name)
        if written is None:
            raise UnknownProviderError(name, {*self._providers, *self.settings.providers})
        with self._lock:
            if name not in self._providers:
                self._providers[name] = _build_provider(name, written)
            return self._providers[name]

    # ------------------------------------------------------------------------------------------------- closing

    def _built_providers(self) -> list[Any]:
        return list(self._providers.values())

    async def aclose(self) -> None:
        """Close the clients of this event loop and write what still waits to be written."""
        for provider in self._built_providers():
            close = getattr(provider, "aclose", None) if isinstance(provider, WireProvider) else None
            if close is not None:
                await close()
        self.close()

    def close(self) -> None:
        """Close the synchronous clients and write what still waits to be written. The gateway stays usable."""
        self._services.drain()
        for provider in self._built_providers():
            close = getattr(provider, "close", None) if isinstance(provider, WireProvider) else None
            if close is not None:
                close()
        close_ledger = getattr(self._services.ledger, "close", None)
        if close_ledger is not None:
            close_ledger()

    def __repr__(self) -> str:
        return f"<Gateway providers={sorted({*self._providers, *self.settings.providers})}>"


def _build_provider(name: str, written: ProviderSettings) -> WireProvider:
    import os

    api_key = written.api_key.reveal() if written.api_key is not None else None
    if written.api_key_env is not None:
        api_key = os.environ.get(written.api_key_env)
        if not api_key:
            raise SettingsError(
                f"Setting 'providers.{name}.api_key_env' names the environment variable {written.api_key_env}, which is "
                "not set."
            )
    provider: WireProvider
    if (written.type or name) == "anthropic":
        provider = AnthropicProvider(
            base_url=written.base_url,
            api_key=api_key,
            transport=written.transport,
            max_connections=written.max_connections,
            pricing_provider=written.pricing_provider,
        )
    else:
        provider = OpenAIProvider(
            api=written.api or "chat",
            base_url=written.base_url,
            api_key=api_key,
            transport=written.transport,
            max_connections=written.max_connections,
            pricing_provider=written.pricing_provider,
        )
    provider.name = name
    return provider


# ------------------------------------------------------------------------------------------------- default gateway


class _PublishedLedger:
    """The ledger of the default gateway: the file that ``turnpike.gateway.telemetry.TELEMETRY_PATH`` names just now."""

    def __init__(self, settings: Settings) -> None:
        self._configured = Path(settings.telemetry_path).expanduser()
        self._writer: LedgerWriter | None = None
        self._lock = threading.Lock()
        reset_in_child(self)

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()

    def _path(self) -> Path:
        if "TELEMETRY_PATH" in vars(telemetry) or "TURNPIKE_TELEMETRY_PATH" in os.environ:
            return Path(telemetry.telemetry_path())
        return self._configured

    def _current(self) -> LedgerWriter:
        path = self._path()
        with self._lock:
            if self._writer is None or self._writer.path != path:
                self._writer = LedgerWriter(path)
            return self._writer

    def check(self) -> None:
        self._current().check()

    def append(self, line: bytes) -> bool:
        return self._current().append(line)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _DefaultGateway(Gateway):
    """The gateway behind ``call_llm`` and the ``register_*`` functions: it works on the published registries."""

    def __init__(self) -> None:
        settings = Settings.from_env()
        super().__init__(settings, prices=DEFAULT_BOOK, ledger=_PublishedLedger(settings) if settings.ledger else None)

    def _registered_policies(self) -> Mapping[str, RoutePolicy]:
        # Looked up at every call, because applications replace the dict in their tests.
        return policies._ROUTE_POLICIES

    def register_route_policy(self, route: str, policy: RoutePolicy) -> None:
        policies.register_route_policy(route, policy)

    def _find_provider(self, name: str) -> Any:
        from turnpike.gateway.provider import _PROVIDERS

        if name in self.settings.providers and name not in _PROVIDERS:
            return super()._find_provider(name)
        # Looked up at every call in this module's namespace, where applications have learned to replace it.
        return get_provider(name)

    def _built_providers(self) -> list[Any]:
        from turnpike.gateway.provider import _PROVIDERS

        return [*_PROVIDERS.values(), *super()._built_providers()]

    def register_provider(self, name: str, provider: Any) -> None:
        from turnpike.gateway.provider import register_provider

        register_provider(name, provider)


_default: _DefaultGateway | None = None
_default_lock = threading.Lock()


def default_gateway() -> Gateway:
    """Return the process's default gateway, configured from the environment when it is first asked for."""
    global _default  # noqa: PLW0603
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = _DefaultGateway()
    return _default


def _published_options(
    prompt: str | None,
    messages: Sequence[Message] | None,
    model_tier: ModelTier,
    route_name: GatewayRouteName,
    metadata: Mapping[str, Any] | None,
    context: LLMRequestContext | None,
) -> tuple[Any, CallOptions]:
    if prompt is not None and messages is not None:
        warnings.warn("call_llm: messages and prompt are both given; the prompt is not sent", UserWarning, stacklevel=3)
    options: CallOptions = {"tier": model_tier, "route": route_name}
    if metadata is not None:
        options["metadata"] = metadata
    if context is not None:
        options["context"] = context
    return (prompt if messages is None else messages), options


async def call_llm(
    *,
    prompt: str | None = None,
    messages: Sequence[Message] | None = None,
    model_tier: ModelTier,
    route_name: GatewayRouteName,
    metadata: Mapping[str, Any] | None = None,
    context: LLMRequestContext | None = None,
) -> GatewayResult:
    """Answer a prompt or a conversation through the default gateway. See ``Gateway.call`` for errors.

    Args:
        prompt: the user's message; or ``messages``, which win when both are given.
        messages: a conversation.
        model_tier: a tier of the route's policy.
        route_name: a route with a policy; see ``register_route_policy``.
        metadata: keys for the ledger line.
        context: attribution, laid over the one bound to the request.
    """
    asked, options = _published_options(prompt, messages, model_tier, route_name, metadata, context)
    return await default_gateway().call(asked, **options)


def call_llm_stream(
    *,
    prompt: str | None = None,
    messages: Sequence[Message] | None = None,
    model_tier: ModelTier,
    route_name: GatewayRouteName,
    metadata: Mapping[str, Any] | None = None,
    context: LLMRequestContext | None = None,
) -> GatewayStream:
    """Open a streamed answer through the default gateway; arguments as for ``call_llm``, errors as for ``stream``."""
    asked, options = _published_options(prompt, messages, model_tier, route_name, metadata, context)
    return default_gateway().stream(asked, **options)
