"""``setup_otel()`` in processes of its own, because a provider can be set once in the life of a process."""

from __future__ import annotations

import http.server
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from turnpike.errors import MissingExtraError
from turnpike.gateway import otel_setup
from turnpike.gateway.otel_sdk import make_resource


def _has_exporter() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


needs_exporter = pytest.mark.skipif(
    not _has_exporter(), reason="needs otlp-exporter: install opentelemetry-exporter-otlp-proto-http"
)

PRELUDE = """
import logging, sys, time
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
from opentelemetry import metrics, trace
from turnpike import setup_otel, shutdown_otel
def span(name):
    trace.get_tracer("app").start_span(name).end()
def count():
    metrics.get_meter("app").create_counter("app.counter").add(1)
"""


def python(code: str, **variables: str) -> tuple[str, str]:
    """Run ``code`` without the OTEL variables of this process; return its output and its log."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + code],
        env={**env, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, run.stderr


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP and remembers path and body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.requests: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def bodies(self, path: str) -> list[bytes]:
        return [body for found, body in self.requests if found == path]


class Taker(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.requests.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@needs_exporter
def test_spans_and_metrics_reach_the_collector_again_after_a_second_setup(collector: Collector) -> None:
    code = """
setup_otel(); setup_otel()
before = trace.get_tracer_provider()
span("first-span"); count(); shutdown_otel(); shutdown_otel()
span("lost-span")
setup_otel()
assert trace.get_tracer_provider() is before
span("second-span"); count(); shutdown_otel()
print("again", hasattr(metrics.get_meter_provider(), "add_metric_reader"))
"""
    out, log = python(code, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_METRIC_EXPORT_INTERVAL="10s")
    traces = b"".join(collector.bodies("/v1/traces"))
    assert (b"first-span" in traces, b"second-span" in traces, b"lost-span" in traces) == (True, True, False)
    assert len(collector.bodies("/v1/metrics")) == (2 if out == "again True\n" else 1)
    assert "OTEL_METRIC_EXPORT_INTERVAL must be a number of milliseconds" in log
    assert "Overriding" not in log


@needs_exporter
def test_what_waits_is_sent_when_the_process_ends(collector: Collector) -> None:
    python('setup_otel(); span("last-span")', OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/custom/traces")
    assert [b"last-span" in body for body in collector.bodies("/custom/traces")] == [True]
    assert {path for path, _ in collector.requests} == {"/custom/traces"}


@needs_exporter
def test_a_silent_collector_holds_shutdown_up_for_no_longer_than_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = """
setup_otel(); span("s"); count()
began = time.monotonic(); shutdown_otel(timeout_s=0.4); print(time.monotonic() - began)
"""
        began = time.monotonic()
        out, log = python(code, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert 0.3 < float(out) < 1.5
        assert time.monotonic() - began < 8
        assert "did not take everything within 0.4 s" in log


def test_providers_of_the_application_stay_each_on_its_own() -> None:
    code = """
from opentelemetry.sdk.trace import TracerProvider
mine = TracerProvider(shutdown_on_exit=False)
trace.set_tracer_provider(mine)
setup_otel(); setup_otel()
assert trace.get_tracer_provider() is mine
print(type(metrics.get_meter_provider()).__module__)
shutdown_otel()
"""
    out, log = python(code)
    assert out.startswith("opentelemetry.sdk.metrics")
    assert "the application has set a tracer provider; setup_otel() leaves it alone" in log
    assert "Overriding" not in log


def test_without_an_endpoint_calls_have_trace_ids_and_nothing_is_printed() -> None:
    code = """
setup_otel(); count()
one = trace.get_tracer("app").start_span("s"); one.end()
assert one.get_span_context().is_valid
shutdown_otel()
"""
    out, log = python(code)
    assert out == ""
    assert "no OTEL_EXPORTER_OTLP_ENDPOINT is set; traces are not exported" in log


def test_the_console_is_used_when_it_is_asked_for() -> None:
    out, _ = python('setup_otel(); span("shown")', OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none")
    assert '"shown"' in out


def test_a_disabled_sdk_is_left_alone() -> None:
    code = "setup_otel(); print(type(trace.get_tracer_provider()).__name__); print('opentelemetry.sdk' in sys.modules)"
    assert python(code, OTEL_SDK_DISABLED="TRUE")[0] == "ProxyTracerProvider\nFalse\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "turnpike {version} development"),
        ({"OTEL_SERVICE_NAME": "shop", "OTEL_DEPLOYMENT_ENVIRONMENT": "staging"}, "shop None staging"),
        (
            {
                "OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,service.version=7,deployment.environment.name=prod",
                "OTEL_SERVICE_VERSION": "8",
                "OTEL_DEPLOYMENT_ENVIRONMENT": "staging",
            },
            "shop 7 prod",
        ),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod", "OTEL_SERVICE_VERSION": "8"},
            "turnpike 8 prod",
        ),
    ],
)
def test_the_environment_describes_the_service_and_turnpike_fills_the_gaps(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "OTEL_SERVICE_NAME",
        "OTEL_SERVICE_VERSION",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_DEPLOYMENT_ENVIRONMENT",
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = make_resource().attributes
    described = [str(found.get(name)) for name in ("service.name", "service.version", "deployment.environment.name")]
    assert " ".join(described) == expected.format(version=version("turnpike"))


@needs_exporter
def test_values_that_cannot_be_used_stop_nothing() -> None:
    _, log = python(
        "setup_otel(); span('s'); count(); shutdown_otel(timeout_s=0.2)",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_BSP_MAX_QUEUE_SIZE="1",
        OTEL_METRIC_EXPORT_INTERVAL="-5",
        OTEL_TRACES_EXPORTER="carrier-pigeon",
    )
    assert "OTEL_TRACES_EXPORTER must be otlp, console or none" in log
    assert "the OTEL_* variables for traces are not usable (ValueError)" in log


def test_a_missing_sdk_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "turnpike.gateway.otel_sdk", None)
    monkeypatch.delattr("turnpike.gateway.otel_sdk", raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    with pytest.raises(MissingExtraError, match=r"setup_otel\(\) needs .* pip install 'turnpike\[otel\]'"):
        otel_setup.setup_otel()


def test_shutdown_without_setup_does_nothing() -> None:
    otel_setup.shutdown_otel(timeout_s=0.0)
