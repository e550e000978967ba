"""``setup_otel()`` and ``shutdown_otel()``: OpenTelemetry for an application that has no set-up of its own.

A provider that the application has set is never replaced, and nothing is written to standard output unless the
environment asks for ``console``. Importing this module loads no SDK.

Environment, beside what the SDK and its exporters read themselves:

- ``OTEL_SDK_DISABLED=true``: nothing is set up
- ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``, ``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT``:
where
  OTLP over HTTP goes; a signal without one is not exported
- ``OTEL_TRACES_EXPORTER``, ``OTEL_METRICS_EXPORTER``: ``otlp`` (also without an endpoint), ``console`` or ``none``
- ``OTEL_METRIC_EXPORT_INTERVAL``: milliseconds, by default 30,000
- ``OTEL_RESOURCE_ATTRIBUTES`` and ``OTEL_SERVICE_NAME`` win over Turnpike's defaults: the service ``turnpike`` in
  Turnpike's own version, and ``deployment.environment.name=development``. ``OTEL_SERVICE_VERSION`` and
  ``OTEL_DEPLOYMENT_ENVIRONMENT`` are read too, as in 0.1.x
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace

from turnpike.errors import MissingExtraError

if TYPE_CHECKING:
    from turnpike.gateway.otel_sdk import MetricPipeline, TracePipeline

__all__ = ["setup_otel", "shutdown_otel"]

_log = logging.getLogger("turnpike.otel")


class _State:
    """What has been installed; OpenTelemetry lets a provider be set once in the life of a process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.traces: TracePipeline | None = None
        self.metrics: MetricPipeline | None = None
        self.active = False
        self.at_exit = False


_state = _State()


def setup_otel() -> None:
    """Send spans and metrics to the collector that the environment names.

    Calling it again does nothing. A tracer or meter provider that the application has set stays, each on its own.
    Without an endpoint providers are set, so that calls have trace ids, but nothing is exported.

    Raises:
        MissingExtraError: if the OpenTelemetry SDK, or the exporter that is needed, is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        _log.debug("OTEL_SDK_DISABLED is set; setup_otel() does nothing")
        return
    try:
        from turnpike.gateway import otel_sdk
    except ImportError:
        raise MissingExtraError("setup_otel()", "otel") from None
    with _state.lock:
        if _state.active:
            return
        if _state.traces is None and _is_unset(trace.get_tracer_provider(), "tracer"):
            _state.traces = otel_sdk.TracePipeline()
            trace.set_tracer_provider(_state.traces.provider)
        if _state.metrics is None and _is_unset(metrics.get_meter_provider(), "meter"):
            _state.metrics = otel_sdk.MetricPipeline()
            metrics.set_meter_provider(_state.metrics.provider)
        for pipeline in (_state.traces, _state.metrics):
            if pipeline is not None:
                pipeline.open()
                _state.active = True
        if _state.active and not _state.at_exit:
            # The SDK's own handlers wait for a dead collector twice, one after the other.
            atexit.register(shutdown_otel)
            _state.at_exit = True


def shutdown_otel(*, timeout_s: float = 5.0) -> None:
    """Send what is waiting and stop exporting; spans and metrics are flushed side by side under one deadline.

    Does nothing unless ``setup_otel()`` has set something up. A later ``setup_otel()`` starts to export again: spans
    always, metrics with an SDK that can take a second reader (``MeterProvider.add_metric_reader``); with an older one
    it says so in the log and metrics stay off. Never raises.

    Args:
        timeout_s: how long to wait altogether, in seconds. What a silent collector has not taken by then is lost.
    """
    with _state.lock:
        if not _state.active:
            return
        _state.active = False
        _side_by_side([item.close for item in (_state.traces, _state.metrics) if item is not None], timeout_s)


def _is_unset(provider: trace.TracerProvider | metrics.MeterProvider, kind: str) -> bool:
    # The API's own classes stand in until somebody sets a provider.
    if type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics")):
        return True
    _log.info("the application has set a %s provider; setup_otel() leaves it alone", kind)
    return False


def _side_by_side(jobs: list[Callable[[float], None]], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    threads = [threading.Thread(target=job, args=(timeout_s,), name="turnpike-otel", daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    if any(thread.is_alive() for thread in threads):
        _log.warning("the telemetry collector did not take everything within %g s; the rest is lost", timeout_s)
