"""Names of Turnpike's own span attributes and metrics: everything under ``turnpike.*``.

The first group was published with 0.1.x and keeps its names for good. No name of the GenAI conventions stands here;
those change with their vintage and live in ``turnpike.gateway.semconv``.

**What may go where.** Metrics carry only what has few values: route, tier, status, provider, model, cost source.
Tenant, caller, use case, session, task and request are on spans and in the ledger, never on a metric.
"""

from __future__ import annotations

# Who asked, and where
ATTR_TURNPIKE_SCHEMA_VERSION = "turnpike.schema_version"
ATTR_TURNPIKE_REQUEST_ID = "turnpike.request_id"
ATTR_TURNPIKE_TENANT_ID = "turnpike.tenant_id"
ATTR_TURNPIKE_CALLER_ID = "turnpike.caller_id"
ATTR_TURNPIKE_USE_CASE = "turnpike.use_case"
ATTR_TURNPIKE_SESSION_ID = "turnpike.session_id"
ATTR_TURNPIKE_TASK_ID = "turnpike.task_id"
ATTR_TURNPIKE_ROUTE = "turnpike.route"
ATTR_TURNPIKE_EVENT_TYPE = "turnpike.event_type"
ATTR_TURNPIKE_RUNTIME_MODE = "turnpike.runtime_mode"

# Which model, and why
ATTR_TURNPIKE_PROVIDER = "turnpike.provider"
ATTR_TURNPIKE_MODEL_TIER = "turnpike.model_tier"
ATTR_TURNPIKE_ROUTING_DECISION = "turnpike.routing_decision"
ATTR_TURNPIKE_ROUTING_REASON = "turnpike.routing_reason"
ATTR_TURNPIKE_RETRY_ATTEMPTS_ALLOWED = "turnpike.retry_attempts_allowed"
ATTR_TURNPIKE_CACHE_ENABLED = "turnpike.cache_enabled"

# What it came to
ATTR_TURNPIKE_STATUS = "turnpike.status"
ATTR_TURNPIKE_ERROR_TYPE = "turnpike.error_type"
ATTR_TURNPIKE_ERROR_CATEGORY = "turnpike.error_category"
ATTR_TURNPIKE_LATENCY_MS = "turnpike.latency_ms"
ATTR_TURNPIKE_RETRY_COUNT = "turnpike.retry_count"
ATTR_TURNPIKE_FALLBACK_TRIGGERED = "turnpike.fallback_triggered"
ATTR_TURNPIKE_FALLBACK_REASON = "turnpike.fallback_reason"
ATTR_TURNPIKE_CIRCUIT_STATE = "turnpike.circuit_state"
ATTR_TURNPIKE_TOKENS_TOTAL = "turnpike.tokens_total"
ATTR_TURNPIKE_ESTIMATED_COST_USD = "turnpike.estimated_cost_usd"
ATTR_TURNPIKE_COST_SOURCE = "turnpike.cost_source"

# What was decided about it
ATTR_TURNPIKE_POLICY_INPUT_CLASS = "turnpike.policy_input_class"
ATTR_TURNPIKE_POLICY_DECISION = "turnpike.policy_decision"
ATTR_TURNPIKE_POLICY_MODE = "turnpike.policy_mode"
ATTR_TURNPIKE_REDACTION_APPLIED = "turnpike.redaction_applied"
ATTR_TURNPIKE_PII_DETECTED = "turnpike.pii_detected"
ATTR_TURNPIKE_CACHE_ELIGIBLE = "turnpike.cache_eligible"
ATTR_TURNPIKE_CACHE_STRATEGY = "turnpike.cache_strategy"
ATTR_TURNPIKE_CACHE_HIT = "turnpike.cache_hit"
ATTR_TURNPIKE_CACHE_KEY_FINGERPRINT = "turnpike.cache_key_fingerprint"
ATTR_TURNPIKE_CACHE_KEY_ALGORITHM = "turnpike.cache_key_algorithm"
ATTR_TURNPIKE_CACHE_LOOKUP_CONFIDENCE = "turnpike.cache_lookup_confidence"
ATTR_TURNPIKE_EVAL_HOOKS = "turnpike.eval_hooks"

METRIC_TURNPIKE_COST_USD = "turnpike.estimated_cost_usd"
METRIC_TURNPIKE_REQUESTS = "turnpike.requests"

# Since 0.2
ATTR_TURNPIKE_ATTRIBUTED = "turnpike.attributed"
"""``False`` on the span of a call for which no tenant is named; absent otherwise."""
ATTR_TURNPIKE_AUDIT_PREFIX = "turnpike.audit."
"""Followed by the name of an audit tag."""
ATTR_TURNPIKE_PROVIDER_FINISH_REASON = "turnpike.provider_finish_reason"
"""The provider's own word, where it differs from the common one in the GenAI finish reasons."""
ATTR_TURNPIKE_COST_AMOUNT = "turnpike.cost.amount"
ATTR_TURNPIKE_COST_CURRENCY = "turnpike.cost.currency"
ATTR_TURNPIKE_COST_ORIGIN = "turnpike.cost.source"
"""Where the amount comes from: a value of ``CostSource``."""
ATTR_TURNPIKE_COST_QUALITY = "turnpike.cost.quality"
"""How far the amount can be trusted: a value of ``CostQuality``."""

METRIC_TURNPIKE_COST = "turnpike.cost"
"""Counter in ``{USD}``. Prometheus drops the annotation, so the currency is an attribute too."""
METRIC_TURNPIKE_COST_UNPRICED = "turnpike.cost.unpriced"
"""Counter of calls whose cost is not known."""
METRIC_TURNPIKE_UNATTRIBUTED = "turnpike.unattributed"
"""Counter of calls for which no tenant is named."""
