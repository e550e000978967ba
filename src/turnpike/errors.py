"""Every error that Turnpike raises, each with the HTTP status and problem type it becomes at the edge.

Messages say what was wrong, where, and what to write instead. They never contain a key, a prompt, an answer or a
provider's own error text, because that text may repeat any of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from turnpike.envelope import LLMRequestEnvelope

__all__ = [
    "CallCancelledError",
    "ClientReuseError",
    "ConfigurationError",
    "ContextTooLargeError",
    "InvalidRequestError",
    "LedgerError",
    "MissingAPIKeyError",
    "MissingExtraError",
    "ProviderAuthenticationError",
    "ProviderError",
    "ProviderProtocolError",
    "ProviderRateLimitError",
    "ProviderRequestError",
    "ProviderTimeoutError",
    "ProviderUnavailableError",
    "QuotaUnavailableError",
    "SettingsError",
    "TurnpikeError",
    "UnadmittedError",
    "UnattributedError",
    "UnknownProviderError",
    "UnknownRouteError",
    "UnknownTierError",
    "UnsupportedOptionError",
    "error_of_category",
]

PROBLEM_BASE = "urn:turnpike:problem:"


class TurnpikeError(Exception):
    """Base of all errors raised by Turnpike."""

    http_status: ClassVar[int] = 500
    """Status of the response that an adapter makes of this error."""
    problem: ClassVar[str] = "internal"
    """Last part of the RFC 9457 problem type."""
    title: ClassVar[str] = "Internal error"
    public_detail: ClassVar[str | None] = None
    """What a client is told where this is a 5xx, instead of the sentence for its status; the text itself is the log's."""

    @property
    def problem_type(self) -> str:
        """The problem type's URI."""
        return PROBLEM_BASE + self.problem

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle message and attributes: many errors take other arguments than the message they make of them."""
        return _rebuild, (type(self), self.args, self.__dict__)


class ConfigurationError(TurnpikeError, ValueError):
    """Something in the application's set-up is wrong; no request was sent."""

    problem = "misconfigured"
    title = "The service is misconfigured"


class SettingsError(ConfigurationError):
    """A setting has a wrong name, type or value; the message names the key and where it was read."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency. Install it with: pip install 'turnpike[{extra}]'")
        self.extra = extra


class MissingAPIKeyError(ConfigurationError):
    """No key for a provider."""

    def __init__(self, provider: str, variable: str) -> None:
        super().__init__(
            f"No API key for provider '{provider}'. Set the environment variable {variable}, or pass api_key= to the "
            f"provider, or write api_key under providers.{provider} in the settings."
        )


class UnknownRouteError(ConfigurationError):
    """No policy is known for a route and there is no default policy."""

    def __init__(self, route: str, known: Iterable[str]) -> None:
        super().__init__(
            f"No gateway policy for route '{route}'. Register one with register_route_policy({route!r}, RoutePolicy(...)), "
            f"or give the settings a default_policy or a provider.{_known('Known routes', route, known)}"
        )


class UnknownTierError(ConfigurationError):
    """A tier is not configured for a route."""

    def __init__(self, tier: str, route: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Model tier '{tier}' is not configured for route '{route}'. Add it to the policy's model_for_tier or to "
            f"tiers in the settings, or pass model=...{_known('Known tiers', tier, known)}"
        )


class UnknownProviderError(ConfigurationError):
    """A provider is not registered."""

    def __init__(self, provider: str, known: Iterable[str]) -> None:
        super().__init__(
            f"Provider '{provider}' is not registered. Register it with register_provider({provider!r}, ...) or name it "
            f"under providers in the settings.{_known('Known providers', provider, known)}"
        )


class UnsupportedOptionError(ConfigurationError):
    """A provider was asked for an option that it does not declare."""

    def __init__(self, provider: str, options: Iterable[str], supported: Iterable[str]) -> None:
        named = ", ".join(sorted(options))
        offered = ", ".join(sorted(supported)) or "none"
        super().__init__(
            f"Provider '{provider}' does not support: {named}. It supports: {offered}. Leave the option out, or pass what "
            "the provider calls it through extra={...}."
        )


class ClientReuseError(ConfigurationError):
    """A client that the user passed in was used in another process or event loop than its first."""


class InvalidRequestError(TurnpikeError, ValueError):
    """A call's arguments are wrong; nothing was sent."""

    http_status = 400
    problem = "invalid-request"
    title = "Invalid request"


class UnattributedError(TurnpikeError, LookupError):
    """An identity is required here and none is bound."""

    problem = "unattributed"
    title = "Nobody is named for this call"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(
            detail
            or "No LLMRequestContext is bound here. Guard the route with the adapter (admitted, middleware or plugin), use "
            "'with turnpike.bind(LLMRequestContext(tenant_id=...)):', or hand the context over with turnpike.propagate()."
        )


class UnadmittedError(TurnpikeError, PermissionError):
    """A call was made in a request that passed without identity because it only asks what is allowed (``OPTIONS``)."""

    http_status = 401
    problem = "unadmitted"
    title = "Nobody was admitted with this request"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(
            detail
            or "An OPTIONS request passes without a key, so nothing is sent to a provider on its behalf. Send the request "
            "with its own method."
        )


class QuotaUnavailableError(TurnpikeError):
    """The store that counts requests does not answer."""

    http_status = 503
    problem = "quota-unavailable"
    title = "Requests cannot be counted at the moment"
    public_detail: ClassVar[str | None] = (
        "The service cannot count requests at the moment, and lets none pass uncounted. Try again later."
    )


class LedgerError(TurnpikeError, OSError):
    """The ledger cannot be opened; raised before anything is sent. With ``on_ledger_error = "raise"`` also after a call.

    Attributes:
        result: the answer of the call whose line could not be written, which was paid for.
    """

    problem = "ledger-unavailable"
    title = "The ledger cannot be opened"
    result: Any = None


class CallCancelledError(TurnpikeError):
    """The call was closed before an answer was complete."""

    problem = "cancelled"
    title = "The call was cancelled"


class ProviderError(TurnpikeError):
    """A provider failed or refused; the request may have been sent.

    Attributes:
        provider: name the provider is registered under.
        category: one of ``auth_error``, ``rate_limit``, ``timeout``, ``transient_error``, ``invalid_request``, ``unknown``.
        status: the provider's HTTP status, if it answered.
        code: the provider's own error code, if it is a plain token.
        retry_after_s: seconds the provider asked to wait, if it said so.
        original: the SDK's exception. Its text may hold prompts and keys, so it is not chained and never logged here.
        envelope: the call's envelope, once the call has ended with this error.
    """

    http_status = 502
    problem = "upstream-failed"
    title = "The model provider failed"
    category: str = "unknown"

    def __init__(
        self,
        provider: str,
        detail: str,
        *,
        category: str | None = None,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        accepted: bool | None = None,
        original: BaseException | None = None,
    ) -> None:
        super().__init__(f"Provider '{provider}': {detail}")
        self.provider = provider
        self.category = category or type(self).category
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.accepted = accepted
        self.original = original
        self.envelope: LLMRequestEnvelope | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the SDK's exception, whose text is not ours to hand on."""
        return _rebuild, (type(self), self.args, {**self.__dict__, "original": None})


def _rebuild(kind: type[TurnpikeError], args: tuple[Any, ...], state: dict[str, Any]) -> TurnpikeError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ProviderAuthenticationError(ProviderError):
    """The provider did not accept our credentials."""

    problem = "upstream-authentication"
    category = "auth_error"


class ProviderRateLimitError(ProviderError):
    """The provider asks us to slow down, or a quota there is used up."""

    http_status = 503
    problem = "upstream-rate-limited"
    title = "The model provider is rate limiting"
    category = "rate_limit"


class ProviderTimeoutError(ProviderError):
    """The provider did not answer within the call's time."""

    http_status = 504
    problem = "upstream-timeout"
    title = "The model provider did not answer in time"
    category = "timeout"


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, broke off, or had an error of its own."""

    problem = "upstream-unavailable"
    category = "transient_error"


class ProviderRequestError(ProviderError):
    """The provider refused the request as such."""

    problem = "upstream-refused"
    title = "The model provider refused the request"
    category = "invalid_request"


class ProviderProtocolError(ProviderError):
    """The provider's answer could not be read, or ended before it was complete."""

    problem = "upstream-protocol"
    title = "The model provider's answer could not be read"
    category = "transient_error"


class ContextTooLargeError(TurnpikeError, ValueError):
    """A conversation does not fit into its bound of tokens; raised before it is sent.

    Attributes:
        actual_tokens: what it takes, or a bound of that, as ``tokens_method`` says.
        max_tokens: what there is room for.
        tokens_method: how ``actual_tokens`` was found; see ``turnpike.tokens``.
    """

    http_status = 413
    problem = "context-too-large"
    title = "The conversation is too large"

    def __init__(self, actual_tokens: int, max_tokens: int, tokens_method: str | None = None) -> None:
        up_to = "up to " if tokens_method == "bytes_bound" else ""
        super().__init__(
            f"A context of {up_to}{actual_tokens} tokens exceeds limit of {max_tokens}. Shorten the message, or leave out "
            "older turns."
        )
        self.actual_tokens = actual_tokens
        self.max_tokens = max_tokens
        self.tokens_method = tokens_method


_BY_CATEGORY: dict[str, type[ProviderError]] = {
    kind.category: kind
    for kind in (
        ProviderAuthenticationError,
        ProviderRateLimitError,
        ProviderTimeoutError,
        ProviderUnavailableError,
        ProviderRequestError,
    )
}


def error_of_category(category: str) -> type[ProviderError]:
    """Return the exception class of a category of ``ProviderError``."""
    return _BY_CATEGORY.get(category, ProviderError)


def _known(label: str, wanted: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if not names:
        return ""
    close = get_close_matches(wanted, names, 1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f" {label}: {', '.join(names)}.{hint}"
