"""Tries that never started: Airflow counts them, and no attempt of an item was made in them."""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger(__name__)

#: Where the operators of jobs are, as serialized tasks name it.
OPERATORS = "airflow_jobs_plugin.run.operators"


def forgive(ti: Any) -> bool:
    """Have a try not count that ended before its process had told Airflow of its start; says whether it was one.

    That is what comes of everything that is queued while the API server is away: ten minutes of that would use up
    every attempt of every item, without a single call. Another try follows as for any that was lost.

    :param ti: Airflow's ``TaskInstance`` of a task that an executor has reported as failed, before it is stored
    """
    from airflow.utils.state import TaskInstanceState

    if getattr(ti.task, "_task_module", None) != OPERATORS or ti.state != TaskInstanceState.UP_FOR_RETRY:
        return False
    # The start that is on record may be that of the try before.
    if ti.queued_dttm is None or (ti.start_date is not None and ti.start_date >= ti.queued_dttm):
        return False
    log.info("%s did not start in its try %d, which does not count", ti.key, ti.try_number)
    ti.try_number -= 1
    return True
