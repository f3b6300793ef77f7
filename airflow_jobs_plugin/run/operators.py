"""The operators of a job's DAG: ``plan`` fixes the list, ``payload`` runs an item, ``sink`` closes the run."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_jobs_plugin import fields, settings
from airflow_jobs_plugin.errors import DefinitionError
from airflow_jobs_plugin.run import closing
from airflow_jobs_plugin.run.attempts import Stopping
from airflow_jobs_plugin.run.batch import drive
from airflow_jobs_plugin.run.batches import SIZES, Batch, cut, is_batch, sizes_of
from airflow_jobs_plugin.run.items import DEFINITION, TERMS, Terms, item_id, parameters_of, plan_items
from airflow_jobs_plugin.run.notes import asked_again
from airflow_jobs_plugin.run.outcomes import planned_items
from airflow_jobs_plugin.run.recording import unrecordable
from airflow_jobs_plugin.run.retry import attempt_number
from airflow_jobs_plugin.run.single import SingleItem
from airflow_jobs_plugin.spec import Job, item_name

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class _JobOperator(BaseOperator):
    """What the three have in common. Nothing is a template: parameters with braces are data."""

    template_fields = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stopping = Stopping(self.task_id)

    def pre_execute(self, context: Any) -> None:
        """Called by Airflow before ``execute``: whatever is logged from here on says of which run it is."""
        fields.bind(job_id=context["ti"].dag_id, run_id=context["ti"].run_id)

    def on_kill(self) -> None:
        """Interrupt at once what is being done: Airflow would wait for it and then kill the process.

        A worker that is shut down costs an attempt, and the next one follows. Where a person ended the task, the
        server has recorded that already, and takes no other word.
        """
        self._stopping.stop()


def job_of(context: Context, items: list[dict[str, Any]] | None = None) -> Job:
    """The definition that this run goes by: the one its items were planned with, where it is still kept.

    That is so for the REST API's jobs while a run of them has not ended. A file is as it is now.
    """
    stored = context["dag"].stored  # type: ignore[attr-defined]
    revision = items[0].get("revision", 0) if items else stored.revision
    job: Job = stored.job if revision == stored.revision else stored.earlier.get(revision, stored.job)
    return job


class PlanOperator(_JobOperator):
    """Fixes the run's payload list and returns it; later edits of the job do not touch it."""

    ui_color = "#e8f0fe"

    @classmethod
    def get_serialized_fields(cls) -> frozenset[str]:
        """One more than Airflow's: what the server knows of a job, which has no files, is in the serialized DAG."""
        known: frozenset[str] = super().get_serialized_fields()  # type: ignore[no-untyped-call]
        return known | {DEFINITION}

    @property
    def job_definition(self) -> str | None:
        """The definition without its secrets, as JSON text. Written when Airflow asks for it; workers never do."""
        stored = getattr(self.dag, "stored", None)
        return None if stored is None else stored.described()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        stored = context["dag"].stored  # type: ignore[attr-defined]
        job, conf, ti = stored.job, context["dag_run"].conf, context["ti"]
        try:
            items = plan_items(job, conf, settings.max_map_length(), stored.revision)
        except DefinitionError as error:
            raise AirflowFailException(f"Nothing was called. {error}") from None
        # For whoever appends to the run, and for whoever changes the definition: this run still goes by this one.
        ti.xcom_push(TERMS, Terms.of(job, stored.revision).written())
        size = job.configuration.items_per_task
        self.log.info(
            "This run has %d items, %d at a time%s%s",
            len(items),
            job.configuration.max_concurrent_requests,
            f", {size} to a task instance" if size > 1 else "",
            " (payload given by the trigger)" if conf and conf.get("payload") else "",
        )
        store = context["task_state_store"]
        if size == 1:
            if ti.try_number > 1:
                store.delete(SIZES)  # the run was cleared, and had batches before
            return items
        if reason := unrecordable():
            raise AirflowFailException(f"Nothing was called. configuration.itemsPerTask: {reason}")
        batches = cut(len(items), size, uuid.uuid4().hex[:12])
        for batch in batches:
            ti.xcom_push(batch.key, items[batch.first : batch.end])
        store.set(SIZES, sizes_of(batches), retention=NEVER_EXPIRE)
        revision = {"revision": stored.revision} if stored.revision else {}
        return [batch.written() | revision for batch in batches]


class PayloadOperator(_JobOperator):
    """Makes one attempt of one payload item, or drives a batch of them.

    :param item: the item as the plan wrote it, or a reference to a batch; comes from mapping.
    """

    ui_color = "#e6f4ea"

    def __init__(self, *, item: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item = item

    @property
    def item_name(self) -> str:
        """The item by API name and parameters, or the items by their indexes, as the grid shows it."""
        if is_batch(self.item):
            batch = Batch.read(self.item)
            return f"items {batch.first} to {batch.end - 1}"
        return item_name(self.item["api"], parameters_of(self.item))

    def pre_execute(self, context: Any) -> None:
        """Of an item alone, also which item and attempt it is; those of a batch say so themselves."""
        super().pre_execute(context)
        if not is_batch(self.item):
            ti = context["ti"]
            which = item_id(ti.dag_id, ti.run_id, ti.map_index)
            fields.bind(item=ti.map_index, item_id=which, attempt=attempt_number(ti.try_number, ti.max_tries))

    def execute(self, context: Context) -> None:
        job = job_of(context, [self.item])
        if is_batch(self.item):
            drive(context, job, Batch.read(self.item), self._stopping)
        else:
            SingleItem(context, job, self.item, self._stopping).drive(self.item_name)


class SinkOperator(_JobOperator):
    """Closes the run when every item has ended: judges its outcome, delivers the results, says so."""

    ui_color = "#fef7e0"

    def execute(self, context: Context) -> None:
        items = planned_items(context)
        job, asked = job_of(context, items), asked_again(context)
        if asked:
            # Who has the results delivered anew has perhaps just mended the sink. Nothing else is as it is now.
            job = job.model_copy(update={"sink": context["dag"].stored.job.sink})  # type: ignore[attr-defined]
        closing.close(context, job, items, judged=asked.get("status"))
