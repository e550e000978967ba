"""The official SDKs' clients: built once for each process and event loop, used only to send.

A client's connections belong to the process and loop that opened them. Two children of a fork that share one read each
other's answers, and a second ``asyncio.run`` over one client sends the prompt and then fails; so clients are kept by
process and by running loop, and a client that the user passed in is tied to the first place it is used in.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import threading
import weakref
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from turnpike.errors import (
    ClientReuseError,
    ConfigurationError,
    MissingAPIKeyError,
    MissingExtraError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    error_of_category,
)
from turnpike.fork import reset_in_child
from turnpike.gateway.provider_base import WireProvider, WireRequest, WireResponse
from turnpike.gateway.retry import parse_retry_after

__all__ = ["ClientOptions", "SDKProvider"]

_CONNECT_TIMEOUT_S = 10.0
_KEPT_CONNECTIONS = 100
"""Idle connections kept open; the SDKs' own number."""


@dataclass(slots=True)
class ClientOptions:
    """How the clients of one provider are built."""

    api_key: str | None = field(repr=False)
    base_url: str | None
    transport: str = "default"
    max_connections: int = 1000
    pricing_provider: str | None = None


class _Response:
    """An SDK client's raw response, read as bytes."""

    __slots__ = ("_response", "_sync", "headers", "status")

    def __init__(self, response: Any, sync: bool) -> None:
        self._response = response
        self._sync = sync
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        response = self._response
        # Undoing content encodings costs a layer of generators a chunk; most event streams have none.
        encoded = "content-encoding" in response.headers
        if self._sync:
            for chunk in response.iter_bytes() if encoded else response.iter_raw():
                yield chunk
        else:
            async for chunk in response.aiter_bytes() if encoded else response.aiter_raw():
                yield chunk

    async def close(self) -> None:
        if self._sync:
            self._response.close()
        else:
            await self._response.aclose()

    def abort(self) -> None:
        stream = self._response.extensions.get("network_stream")
        socket = stream.get_extra_info("socket") if stream is not None else None
        if socket is not None:
            import socket as sockets

            try:
                try:
                    socket.shutdown(sockets.SHUT_RDWR)
                except TypeError:
                    # uvloop's stand-in for a socket cannot be shut down; a duplicate of its descriptor can.
                    with socket.dup() as duplicate:
                        duplicate.shutdown(sockets.SHUT_RDWR)
            except OSError:
                return


class SDKProvider(WireProvider):
    """A provider that sends through one of the official SDKs, which are generated alike."""

    sdk_name: str
    """Module of the SDK; also the name of the extra that installs it."""
    async_class: str
    sync_class: str
    api_key_variable: str
    """Environment variable that holds the key where none is given."""
    base_url_variable: str
    """Environment variable from which the SDK reads its base URL."""
    default_base_url: str

    def __init__(self, options: ClientOptions, client: Any, sync_client: Any) -> None:
        self.name: str = self.provider_name
        self._options = options
        self._lock = threading.Lock()
        self._async_clients: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._sync_client: Any = None
        self._pid = -1
        self._given_async, self._given_sync = self._sort_given(client, sync_client)
        self._bound: dict[int, tuple[int, Any]] = {}
        self._modules: _SDKModules | None = None
        self._base: str | None = None
        self._server: tuple[str | None, int | None] | None = None
        reset_in_child(self)

    @property
    def pricing_provider(self) -> str:
        """Whose price list applies: the vendor's own, unless another was named."""
        return self._options.pricing_provider or self.provider_name

    @property
    def server(self) -> tuple[str | None, int | None]:
        """Host and port that requests go to."""
        if self._server is None:
            given = self._given_async or self._given_sync
            base_url = str(given.base_url) if given is not None else self._options.base_url
            self._server = _server_of(base_url or os.environ.get(self.base_url_variable) or self.default_base_url)
        return self._server

    # ------------------------------------------------------------------ clients

    def _sort_given(self, client: Any, sync_client: Any) -> tuple[Any, Any]:
        """Tell an asynchronous client from a synchronous one by how it posts."""
        if client is not None and not asyncio.iscoroutinefunction(getattr(client, "post", None)):
            if sync_client is not None:
                raise ConfigurationError(
                    f"client= must be {self.sdk_name}.{self.async_class}; pass the other as sync_client="
                )
            client, sync_client = None, client
        for given in (client, sync_client):
            if given is not None and not callable(getattr(given, "post", None)):
                raise ConfigurationError(
                    f"client= must be {self.sdk_name}.{self.async_class} or {self.sdk_name}.{self.sync_class}; "
                    f"got {type(given).__name__}."
                )
        return client, sync_client

    def connect(self, *, sync: bool) -> None:
        """Make sure that a client can be had here; see ``WireProvider.connect``."""
        if sync:
            self._get_sync_client()
        else:
            self._get_async_client()

    def _sdk(self) -> _SDKModules:
        if self._modules is None:
            self._modules = _SDKModules.load(self.sdk_name)
        return self._modules

    def _get_async_client(self) -> Any:
        if self._given_async is not None:
            return self._use_given(self._given_async, asyncio.get_running_loop())
        if self._given_sync is not None:
            raise ConfigurationError(
                f"Provider '{self.name}' was given only a synchronous client: pass client={self.async_class}(...) too, or "
                "use call_sync() and stream_sync()."
            )
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            self._start_process()
        client = self._async_clients.get(loop)
        if client is None:
            client = self._build(sync=False)
            with self._lock:
                # A client refers to its loop, so the weak key alone never lets go of loops that ended without aclose().
                for ended in [known for known in self._async_clients if known.is_closed()]:
                    del self._async_clients[ended]
                self._async_clients[loop] = client
        return client

    def _get_sync_client(self) -> Any:
        if self._given_sync is not None:
            return self._use_given(self._given_sync, None)
        if self._given_async is not None:
            raise ConfigurationError(
                f"Provider '{self.name}' was given only an asynchronous client: pass sync_client={self.sync_class}(...) "
                "too, or await call() and stream()."
            )
        if self._pid != os.getpid():
            self._start_process()
        if self._sync_client is None:
            with self._lock:
                if self._sync_client is None:
                    self._sync_client = self._build(sync=True)
        return self._sync_client

    def _use_given(self, client: Any, loop: Any) -> Any:
        pid, first_loop = self._bound.setdefault(id(client), (os.getpid(), loop))
        if pid != os.getpid() or first_loop is not loop:
            what = "process" if pid != os.getpid() else "event loop"
            raise ClientReuseError(
                f"The client passed to provider '{self.name}' was first used in another {what}; its connections belong "
                "there. Build the provider after the fork and inside the loop, or pass base_url= and api_key= instead of "
                "client= and let Turnpike keep one client for each."
            )
        return client

    def _start_process(self) -> None:
        """Begin with no clients: those inherited over a fork belong to the parent and are not even closed."""
        with self._lock:
            if self._pid != os.getpid():
                if self._pid > 0:
                    _leaked.append((self._async_clients, self._sync_client))
                self._async_clients = weakref.WeakKeyDictionary()
                self._sync_client = None
                self._pid = os.getpid()

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()

    def _build(self, *, sync: bool) -> Any:
        sdk = self._sdk()
        options = self._options
        # Every request looks at each idle connection, so keeping more of them than the SDKs do makes all requests slower.
        limits = sdk.http.Limits(
            max_connections=options.max_connections,
            max_keepalive_connections=min(_KEPT_CONNECTIONS, options.max_connections),
        )
        if sync:
            transport = sdk.module.DefaultHttpxClient
        elif options.transport == "aiohttp":
            transport = self._aiohttp_class(sdk)
        else:
            transport = sdk.module.DefaultAsyncHttpxClient
        http_client = transport(limits=limits, verify=sdk.ssl_context())
        kind = getattr(sdk.module, self.sync_class if sync else self.async_class)
        arguments: dict[str, Any] = {"max_retries": 0, "http_client": http_client, **self._client_arguments(sdk)}
        if options.base_url is not None:
            arguments["base_url"] = options.base_url
        return kind(**arguments)

    def _aiohttp_class(self, sdk: _SDKModules) -> Any:
        try:
            importlib.import_module("aiohttp")
        except ImportError:
            raise MissingExtraError("transport='aiohttp'", "aiohttp") from None
        return sdk.module.DefaultAioHttpClient

    def _api_key(self) -> str:
        api_key = self._options.api_key or os.environ.get(self.api_key_variable)
        if not api_key:
            raise MissingAPIKeyError(self.name, self.api_key_variable)
        return api_key

    def _client_arguments(self, sdk: _SDKModules) -> dict[str, Any]:
        """Arguments of the client that only this SDK has."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the clients of this process and of the running loop."""
        client = None
        if self._pid == os.getpid():
            with self._lock:
                client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        self.close()

    def close(self) -> None:
        """Close the synchronous client of this process."""
        if self._pid != os.getpid():
            # What is here belongs to the parent of this process.
            return
        client, self._sync_client = self._sync_client, None
        if client is not None:
            client.close()

    # ------------------------------------------------------------------ sending

    async def send(self, request: WireRequest, timeout_s: float) -> WireResponse:
        """Send over the asynchronous client; see ``WireProvider.send``."""
        client = self._get_async_client()
        try:
            response = await client.post(self._url(client, request), **self._post_arguments(request, timeout_s))
        except Exception as error:  # noqa: BLE001 - credentials, encodings and the SDK fail in ways of their own
            raise self._translate(error) from None
        return _Response(response, sync=False)

    def send_sync(self, request: WireRequest, timeout_s: float) -> WireResponse:
        """Send over the synchronous client; see ``WireProvider.send_sync``."""
        client = self._get_sync_client()
        try:
            response = client.post(self._url(client, request), **self._post_arguments(request, timeout_s))
        except Exception as error:  # noqa: BLE001 - credentials, encodings and the SDK fail in ways of their own
            raise self._translate(error) from None
        return _Response(response, sync=True)

    def _url(self, client: Any, request: WireRequest) -> str:
        """Return the request's whole URL, which spares the SDK two parses; a client passed in may build its own."""
        if client is self._given_async or client is self._given_sync:
            return request.path
        if self._base is None:
            self._base = str(client.base_url).rstrip("/")
        return self._base + request.path

    def _post_arguments(self, request: WireRequest, timeout_s: float) -> dict[str, Any]:
        sdk = self._sdk()
        timeout = sdk.http.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
        return {
            "content": request.body,
            "cast_to": sdk.http.Response,
            "stream": True,
            # The SDK's retries stay off for clients passed in too: a retry it hides is an attempt nobody pays attention to.
            "options": {"timeout": timeout, "max_retries": 0, "headers": request.headers},
        }

    # ------------------------------------------------------------------- errors

    def _translate(self, error: Exception) -> ProviderError:
        """Turn the SDK's exception into ours. Its text stays behind: it repeats what the provider echoed."""
        sdk = self._sdk()
        if isinstance(error, sdk.module.APIStatusError):
            return self._status_error(error)
        if isinstance(error, sdk.module.APITimeoutError):
            accepted = False if _never_sent(error.__cause__) else None
            return ProviderTimeoutError(self.name, "no answer within the timeout", accepted=accepted, original=error)
        if isinstance(error, sdk.module.APIConnectionError):
            return self._connection_error(error, error.__cause__)
        return ProviderError(self.name, f"the SDK failed with {type(error).__name__}", original=error)

    def _status_error(self, error: Any) -> ProviderError:
        from turnpike.gateway.wire import classify_error

        response = error.response
        found = classify_error(response.status_code, response.content, self.wire_format)
        kind = error_of_category(found.category)
        code = found.code or found.type
        return kind(
            self.name,
            f"HTTP {response.status_code}" + (f" ({code})" if code else ""),
            category=found.category,
            status=response.status_code,
            code=code,
            retry_after_s=parse_retry_after(response.headers),
            accepted=False,
            original=error,
        )

    def _connection_error(self, error: Exception, cause: BaseException | None) -> ProviderError:
        if _never_sent(cause):
            return ProviderUnavailableError(self.name, "could not be reached", accepted=False, original=error)
        return ProviderUnavailableError(self.name, "the connection broke off", accepted=None, original=error)

    def read_error(self, error: Exception) -> ProviderError:
        """Translate a failure while reading a body: the provider has taken the request on by then."""
        if isinstance(error, ProviderError):
            return error
        if isinstance(error, (TimeoutError, self._sdk().http.TimeoutException)):
            return ProviderTimeoutError(self.name, "the answer stalled", accepted=True, original=error)
        http = self._sdk().http
        if isinstance(error, (http.HTTPError, http.StreamError, OSError)):
            return ProviderUnavailableError(self.name, "the answer broke off", accepted=True, original=error)
        detail = f"its answer could not be read ({type(error).__name__})"
        return ProviderError(self.name, detail, accepted=True, original=error)


_leaked: list[Any] = []
"""Clients of a parent process: kept alive in a child so that no finalizer closes connections that the parent still uses."""


def _never_sent(cause: BaseException | None) -> bool:
    return type(cause).__name__ in (
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "ProxyError",
    )


class _SDKModules:
    """An SDK and the HTTP library below it: openai 2.x stands on ``httpx``, the others on ``httpx2``."""

    def __init__(self, module: Any, http: Any) -> None:
        self.module = module
        self.http = http

    @classmethod
    def load(cls, name: str) -> _SDKModules:
        try:
            module = importlib.import_module(name)
        except ImportError:
            raise MissingExtraError(f"Provider '{name}'", name) from None
        bases = (base.__module__.partition(".")[0] for base in module.DefaultAsyncHttpxClient.__mro__)
        return cls(module, importlib.import_module(next(base for base in bases if base.startswith("httpx"))))

    def ssl_context(self) -> Any:
        """The one TLS context of all clients on this HTTP library."""
        return _ssl_context(self.http)


@functools.cache
def _ssl_context(http: Any) -> Any:
    """Build a TLS context; it reads the trust store, some 50 ms each time."""
    return http.create_ssl_context()


def _server_of(base_url: str) -> tuple[str | None, int | None]:
    """Return the host and port of ``base_url``, the scheme's own port where it names none."""
    parts = urlsplit(base_url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.hostname, port or {"https": 443, "http": 80}.get(parts.scheme)
