"""Jobs for Apache Airflow: stored definitions of which APIs to run, how, when, and where the results go."""

__version__ = "0.1.0"
