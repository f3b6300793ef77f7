"""Airflow's stats, in a component that is only starting."""

from __future__ import annotations


def initialize() -> None:
    """Have this component's stats send what is counted from now on.

    A scheduler or DAG processor does the same by itself, but after it has told its listeners that it starts; what is
    counted before goes nowhere.
    """
    from airflow.configuration import conf
    from airflow.observability import stats
    from airflow.observability.metrics import stats_utils

    stats.initialize(
        factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on")
    )


__all__ = ["initialize"]
