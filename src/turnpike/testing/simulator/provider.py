"""The simulated provider: decides what each request gets, keeps its bills, its scripts and the requests it saw.

It knows no sockets: it turns a request into a `Performance` that a connection plays. Its methods may be called from
any thread.
"""

from __future__ import annotations

import gzip
import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from turnpike.testing.simulator import vendor_errors
from turnpike.testing.simulator.asking import Ask, BadRequest
from turnpike.testing.simulator.behaviour import Behaviour
from turnpike.testing.simulator.bill_book import Bill, BillBook, Usage, cost_nano_usd, fingerprint
from turnpike.testing.simulator.composing import compose
from turnpike.testing.simulator.events import Event
from turnpike.testing.simulator.generation import Answer, identifier
from turnpike.testing.simulator.heads import JSON_TYPE, STREAM_TYPE, response_head
from turnpike.testing.simulator.playback import Performance, plan_json, plan_stream
from turnpike.testing.simulator.prompt_cache import PromptCache
from turnpike.testing.simulator.received import ReceivedRequest, masked
from turnpike.testing.simulator.vendor_errors import ANTHROPIC, OPENAI
from turnpike.testing.simulator.wire_formats import BY_API, api_of

_GZIP_LEVEL = 5
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/")


@dataclass(slots=True)
class _Rule:
    behaviour: Behaviour
    matches: Callable[[ReceivedRequest], bool]
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = float("inf") if self.behaviour.times is None else self.behaviour.times


@lru_cache(maxsize=1024)
def _target(path: str) -> tuple[str | None, str | None, str | None]:
    """The wire format that a path names, the options of its `/opt/` prefix, and its Azure deployment."""
    path = path.partition("?")[0]
    options = None
    if path.startswith("/opt/"):
        options, _, rest = path[5:].partition("/")
        path = "/" + rest
    deployment = _DEPLOYMENT.search(path)
    return api_of(path), options, deployment and unquote(deployment[1])


def _bearer(headers: dict[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _key_of(api: str | None, headers: dict[str, str]) -> str:
    other = "x-api-key" if api == ANTHROPIC else "api-key"
    return headers.get(other, "").strip() or _bearer(headers)


class Provider:
    """State and decisions of one simulated provider.

    `keys` are the API keys it accepts (None: any); `kept_requests` bounds the memory of received requests; `clock`
    gives UTC seconds for `created` and `date`.
    """

    def __init__(
        self, *, keys: Collection[str] | None = None, kept_requests: int = 1000, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = None if keys is None else frozenset(keys)
        self._clock = clock
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._default = Behaviour(times=None)
        self._cache = PromptCache()
        self._sequence = itertools.count()
        self.bills: BillBook = BillBook()
        self.requests: deque[ReceivedRequest] = deque(maxlen=kept_requests)
        self.request_count: int = 0

    def script(self, behaviours: Collection[Behaviour], matches: Callable[[ReceivedRequest], bool]) -> None:
        """Queue behaviours for the next requests that match."""
        with self._lock:
            self._rules += [_Rule(behaviour, matches) for behaviour in behaviours]

    def set_default(self, behaviour: Behaviour) -> None:
        """What requests get that nothing is scripted for."""
        self._default = behaviour

    @property
    def default(self) -> Behaviour:
        """What requests get that nothing is scripted for."""
        return self._default

    def scripts_left(self) -> int:
        """Scripted behaviours not used up, those without an end included."""
        with self._lock:
            return len(self._rules)

    def reset(self) -> None:
        """Forget scripts, the default, bills, requests and caches."""
        with self._lock:
            self._rules = []
        self._default = Behaviour(times=None)
        self._cache.clear()
        self.bills.clear()
        self.requests.clear()

    def answer(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Performance:
        """What to send for a request. Control paths never come here."""
        self.request_count += 1
        api, options, deployment = _target(path)
        key = _key_of(api, headers)
        body = _decoded(raw)
        request = ReceivedRequest(next(self._sequence), method, path, api, masked(headers), body, fingerprint(key))
        self.requests.append(request)
        if api is None or method != "POST":
            return self._unknown(request, headers)
        error = self._key_error(api, key)
        if error is not None:
            return self._refuse(request, 401, error)
        if not isinstance(body, dict):
            return self._refuse(request, 400, vendor_errors.error_object(api, 400, _unreadable(api)))
        try:
            ask = _read(api, {"model": deployment, **body} if deployment else body)
            behaviour = self._behaviour(request, options)
        except BadRequest as refusal:
            error = vendor_errors.error_object(api, refusal.status, refusal.message, refusal.param, refusal.code)
            return self._refuse(request, refusal.status, error)
        except ValueError as complaint:
            return self._refuse(request, 400, vendor_errors.error_object(api, 400, str(complaint)))
        if behaviour.status != 200 and not behaviour.is_billed:
            return self._refuse(request, behaviour.status, _scripted_error(api, behaviour), behaviour)
        return self._generate(request, ask, behaviour, gzip_ok="gzip" in headers.get("accept-encoding", ""))

    def _key_error(self, api: str, key: str) -> dict[str, Any] | None:
        if not key:
            return vendor_errors.missing_key(api)
        if self._keys is not None and key not in self._keys:
            return vendor_errors.error_object(api, 401)
        return None

    def _behaviour(self, request: ReceivedRequest, options: str | None) -> Behaviour:
        if self._rules:
            with self._lock:
                for rule in self._rules:
                    if rule.matches(request):
                        rule.left -= 1
                        if rule.left <= 0:
                            self._rules.remove(rule)
                        return rule.behaviour
        return self._default if options is None else _with_options(options, self._default)

    def _unknown(self, request: ReceivedRequest, headers: dict[str, str]) -> Performance:
        api = request.api or (ANTHROPIC if "anthropic-version" in headers else OPENAI)
        path = request.path.partition("?")[0]
        if request.api is not None:
            message = f"Not allowed to {request.method} on {path}."
            error = vendor_errors.error_object(api, 405, message, None, "method_not_supported")
            return self._error(api, 405, error, Behaviour(), request.sequence)
        return self._error(
            api, 404, vendor_errors.unknown_path(api, request.method, path), Behaviour(), request.sequence
        )

    def _refuse(
        self, request: ReceivedRequest, status: int, error: dict[str, Any], behaviour: Behaviour | None = None
    ) -> Performance:
        api = request.api or ""
        stream = isinstance(request.body, dict) and request.body.get("stream") is True
        names = (None, api, request.model, None, stream, request.key, status, False)
        bill = Bill(len(self.bills), *names, usage=Usage(), cost_nano_usd=0)
        self.bills.add(bill)
        performance = self._error(api, status, error, behaviour or Behaviour(), request.sequence)
        performance.finish = self._closer(bill, behaviour or Behaviour())
        return performance

    def _error(self, api: str, status: int, error: dict[str, Any], behaviour: Behaviour, sequence: int) -> Performance:
        request_id = _request_id(api, sequence)
        fields = {"content-type": JSON_TYPE, **vendor_errors.error_headers(api, status)}
        if behaviour.retry_after is not None:
            fields["retry-after"] = behaviour.retry_after
        fields |= behaviour.headers
        body = vendor_errors.error_body(api, error, request_id)
        now = int(self._clock())
        return plan_json(lambda length: response_head(api, status, request_id, now, fields, length), body, behaviour, 0)

    def _generate(self, request: ReceivedRequest, ask: Ask, behaviour: Behaviour, *, gzip_ok: bool) -> Performance:
        now = int(self._clock())
        response_id = BY_API[ask.api].new_id(ask.seed, request.sequence)
        given = self._cache.input_usage(ask, request.key)
        answer = compose(ask, behaviour, given, response_id, now)
        bill = self._enter(request, ask, behaviour, answer)
        if behaviour.status != 200:
            error = _scripted_error(ask.api, behaviour)
            performance = self._error(ask.api, behaviour.status, error, behaviour, request.sequence)
        elif ask.stream:
            performance = self._stream(request, ask, behaviour, answer)
        else:
            performance = self._json(request, ask, behaviour, answer, gzip_ok=gzip_ok)
        performance.finish = self._closer(bill, behaviour)
        return performance

    def _enter(self, request: ReceivedRequest, ask: Ask, behaviour: Behaviour, answer: Answer) -> Bill:
        billed = behaviour.is_billed
        usage = answer.usage if billed else Usage()
        cost = cost_nano_usd(answer.model, usage) if billed else 0
        names = (answer.id, ask.api, ask.model, answer.model, ask.stream, request.key, behaviour.status, billed)
        bill = Bill(len(self.bills), *names, usage=usage, cost_nano_usd=cost)
        self.bills.add(bill)
        return bill

    def _closer(self, bill: Bill, behaviour: Behaviour) -> Callable[[int, bool, bool], None]:
        stops = not behaviour.generate_after_disconnect or behaviour.error_event is not None
        tells = behaviour.usage == "normal" and behaviour.status == 200

        def close(sent: int, usage_sent: bool, aborted: bool) -> None:
            self.bills.close(
                bill,
                sent_output_tokens=sent if bill.accepted else 0,
                delivered_usage=usage_sent and tells and bill.accepted,
                aborted=aborted,
                stops=stops,
            )

        return close

    def _stream(self, request: ReceivedRequest, ask: Ask, behaviour: Behaviour, answer: Answer) -> Performance:
        wire_format, failure = BY_API[ask.api], None
        events = _scaled(list(wire_format.write_events(ask, answer)), answer.usage.output)
        if behaviour.error_event:
            status = 529 if ask.api == ANTHROPIC else 500
            error = vendor_errors.error_object(ask.api, status, behaviour.error_message, code=behaviour.error_code)
            position = min(behaviour.events_before_fault, len(events))
            failure = wire_format.error_event(error, behaviour.error_event, ask, answer, position)
        fields = {"content-type": STREAM_TYPE, "cache-control": "no-cache", **behaviour.headers}
        request_id = _request_id(ask.api, request.sequence)
        return plan_stream(
            lambda length: response_head(ask.api, 200, request_id, answer.created, fields, length),
            events,
            behaviour,
            failure,
        )

    def _json(
        self, request: ReceivedRequest, ask: Ask, behaviour: Behaviour, answer: Answer, *, gzip_ok: bool
    ) -> Performance:
        body = BY_API[ask.api].write(ask, answer)
        fields = {"content-type": JSON_TYPE, **behaviour.headers}
        if behaviour.gzip and gzip_ok:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            fields["content-encoding"] = "gzip"
        request_id = _request_id(ask.api, request.sequence)
        return plan_json(
            lambda length: response_head(ask.api, 200, request_id, answer.created, fields, length),
            body,
            behaviour,
            answer.usage.output,
        )


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read(api: str, body: dict[str, Any]) -> Ask:
    try:
        return BY_API[api].read(body)
    except (TypeError, AttributeError, KeyError, IndexError):
        raise BadRequest("Input does not match the expected shape.") from None


def _unreadable(api: str) -> str:
    if api == ANTHROPIC:
        return "The request body is not valid JSON: expected an object"
    return (
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
        "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
    )


@lru_cache(maxsize=256)
def _with_options(options: str, base: Behaviour) -> Behaviour:
    return Behaviour.from_options(options, base)


def _scripted_error(api: str, behaviour: Behaviour) -> dict[str, Any]:
    return vendor_errors.error_object(api, behaviour.status, behaviour.error_message, code=behaviour.error_code)


def _request_id(api: str, sequence: int) -> str:
    seed = sequence.to_bytes(8, "big")
    if api == ANTHROPIC:
        return "req_01" + identifier(seed, "request", 22)
    return "req_" + identifier(seed, "request", 32, hexadecimal=True)


def _scaled(events: list[Event], output_tokens: int) -> list[Event]:
    """The events, their running token count stretched to end at a scripted figure."""
    counted = events[-1].output_tokens
    if counted == output_tokens:
        return events
    if counted == 0:
        return [*events[:-1], events[-1]._replace(output_tokens=output_tokens)]
    return [event._replace(output_tokens=event.output_tokens * output_tokens // counted) for event in events]
