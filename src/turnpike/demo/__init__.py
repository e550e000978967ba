"""The demo: a simulator and an example service as real servers, traffic of three tenants, and the reckoning."""

from __future__ import annotations

from turnpike.demo.run import run_demo

__all__ = ["run_demo"]
