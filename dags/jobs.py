"""Every job file below jobs/ becomes an Airflow DAG of its own.

Airflow passes over files that do not mention both of these words, so keep this text.
"""

from airflow_jobs_plugin.factory import load_jobs

globals().update(load_jobs())
