"""What a job is. Pure: imports no Airflow and none of the other rooms."""

from airflow_jobs_plugin.spec.durations import format_duration, parse_duration
from airflow_jobs_plugin.spec.faults import Fault, explain
from airflow_jobs_plugin.spec.job import Configuration, Job, check_job_id, parse_payload
from airflow_jobs_plugin.spec.payload import PayloadItem, item_name
from airflow_jobs_plugin.spec.retry import MAX_ATTEMPTS, RetryOverride, RetryPolicy
from airflow_jobs_plugin.spec.schedule import Calendar, Interval, Schedule
from airflow_jobs_plugin.spec.secrets import masked
from airflow_jobs_plugin.spec.sinks import BaseSink, S3Sink, Sink, WebhookSink
from airflow_jobs_plugin.spec.targets import HttpTarget, PythonTarget, RunApiTarget, Target

__all__ = [
    "MAX_ATTEMPTS",
    "BaseSink",
    "Calendar",
    "Configuration",
    "Fault",
    "HttpTarget",
    "Interval",
    "Job",
    "PayloadItem",
    "PythonTarget",
    "RetryOverride",
    "RetryPolicy",
    "RunApiTarget",
    "S3Sink",
    "Schedule",
    "Sink",
    "Target",
    "WebhookSink",
    "check_job_id",
    "explain",
    "format_duration",
    "item_name",
    "masked",
    "parse_duration",
    "parse_payload",
]
