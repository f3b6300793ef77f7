"""Where results go. A sink delivers one body at a time; when and how often is decided by who closes the run."""

from __future__ import annotations

from airflow_jobs_plugin.errors import ConfigurationError
from airflow_jobs_plugin.sinks.base import DeliverySink
from airflow_jobs_plugin.sinks.destinations import Destinations, Source
from airflow_jobs_plugin.sinks.guarded import Guarded
from airflow_jobs_plugin.spec import S3Sink, Sink, WebhookSink
from airflow_jobs_plugin.spec.plugins import sink_class
from airflow_jobs_plugin.spec.secrets import Redactor, secrets_in


def sink_for(spec: Sink, source: Source = "CODE") -> DeliverySink:
    """The sink that a definition asks for. Raises ``ConfigurationError`` if it cannot be made here.

    :param source: where the definition is from, which decides on what its deliveries may reach
    """
    destinations = Destinations(source)
    if isinstance(spec, WebhookSink):
        from airflow_jobs_plugin.sinks.webhook import Webhook

        return Webhook(spec, destinations)
    if isinstance(spec, S3Sink):
        from airflow_jobs_plugin.sinks.s3 import S3

        return S3(spec, destinations)
    secrets = secrets_in(spec.model_dump(mode="json"))
    try:
        found = sink_class(spec.type)
        if found is None:
            raise ValueError(f"the sink type {spec.type!r} is not installed here")
        made: DeliverySink = found(spec, destinations)
    except Exception as error:
        raise ConfigurationError(f"sink: {Redactor(secrets)(str(error))}") from error
    return Guarded(made, spec.type, secrets)
