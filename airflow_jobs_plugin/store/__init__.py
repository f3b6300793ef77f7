"""Where definitions live, behind one interface: job files, and Airflow Variables for what the REST API creates."""

from airflow_jobs_plugin.store.base import JobStore, Loaded, StoredJob
from airflow_jobs_plugin.store.files import JobFiles, lint
from airflow_jobs_plugin.store.union import AllJobs
from airflow_jobs_plugin.store.variables import JobVariables

__all__ = ["AllJobs", "JobFiles", "JobStore", "JobVariables", "Loaded", "StoredJob", "lint"]
