"""A real Airflow on a machine's spare ports: what the demo, the end-to-end tests and the benchmarks start.

Nothing in here is imported by the plugin at run time; it needs the extra ``demo``.
"""
