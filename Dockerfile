# Airflow with the jobs plugin. The tag is the Airflow version of constraints.txt.
FROM apache/airflow:3.3.2-python3.12
COPY --chown=airflow:0 pyproject.toml README.md LICENSE constraints.txt /tmp/airflow-jobs-plugin/
COPY --chown=airflow:0 airflow_jobs_plugin /tmp/airflow-jobs-plugin/airflow_jobs_plugin
COPY --chown=airflow:0 timetables /tmp/airflow-jobs-plugin/timetables
RUN pip install --no-cache-dir --constraint /tmp/airflow-jobs-plugin/constraints.txt /tmp/airflow-jobs-plugin
# A volume that is put here gets this owner.
RUN mkdir --parents /opt/airflow/users
