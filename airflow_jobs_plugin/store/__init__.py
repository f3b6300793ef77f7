"""Where definitions live, behind one interface: job files now, Airflow Variables with the REST API."""

from airflow_jobs_plugin.store.base import JobStore, Loaded, StoredJob
from airflow_jobs_plugin.store.files import JobFiles, lint

__all__ = ["JobFiles", "JobStore", "Loaded", "StoredJob", "lint"]
