"""Where results go. A sink delivers one body at a time; when and how often is decided by who closes the run."""

from __future__ import annotations

from airflow_jobs_plugin.errors import ConfigurationError
from airflow_jobs_plugin.sinks.base import DeliverySink
from airflow_jobs_plugin.spec import Sink, WebhookSink


def sink_for(spec: Sink) -> DeliverySink:
    """The sink that a definition asks for. Raises ``ConfigurationError`` for what this version cannot do."""
    if message := unsupported(spec):
        raise ConfigurationError(message)
    from airflow_jobs_plugin.sinks.webhook import Webhook

    return Webhook(spec)  # type: ignore[arg-type]


def unsupported(spec: Sink) -> str | None:
    """What of a valid sink this version cannot do; None if nothing."""
    if not isinstance(spec, WebhookSink):
        return f"sink: this version delivers to webhooks only, not yet to {spec.type}"
    if spec.delivery != "run":
        return "sink.delivery: this version delivers once per run only ('run'), not yet per payload item"
    return None
