"""The operators of a job's DAG: ``plan`` fixes the list, ``payload`` runs an item, ``sink`` closes the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_jobs_plugin import settings
from airflow_jobs_plugin.errors import AttemptError, DefinitionError, ItemFailedError
from airflow_jobs_plugin.run import closing
from airflow_jobs_plugin.run.appending import append_children, append_url, run_token
from airflow_jobs_plugin.run.items import DEFINITION, TERMS, Terms, item_id, parameters_of, plan_items, policy_of
from airflow_jobs_plugin.run.memory import ItemMemory
from airflow_jobs_plugin.run.messages import message_of_item
from airflow_jobs_plugin.run.notes import asked_again
from airflow_jobs_plugin.run.one_by_one import deliver_item
from airflow_jobs_plugin.run.outcomes import completed, failed, planned_items, store_outcome
from airflow_jobs_plugin.run.rescheduling import later
from airflow_jobs_plugin.run.retry import attempt_number
from airflow_jobs_plugin.run.tokens import Permit, microseconds
from airflow_jobs_plugin.spec import Job, item_name
from airflow_jobs_plugin.targets import open_target
from airflow_jobs_plugin.targets.base import Attempt, Grant, Limits, Result

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class Stopped(BaseException):
    """Raised by a signal into whatever is running. Not an Exception, so that nobody on the way swallows it."""


class _JobOperator(BaseOperator):
    """What the three have in common. Nothing is a template: parameters with braces are data."""

    template_fields = ()

    def on_kill(self) -> None:
        """Interrupt at once what is being done: Airflow would wait for it and then kill the process.

        A worker that is shut down costs an attempt, and the next one follows. Where a person ended the task, the
        server has recorded that already, and takes no other word.
        """
        raise Stopped(f"{self.task_id} was stopped from outside")


def job_of(context: Context, items: list[dict[str, Any]] | None = None) -> Job:
    """The definition that this run goes by: the one its items were planned with, where it is still kept.

    That is so for the REST API's jobs while a run of them has not ended. A file is as it is now.
    """
    stored = context["dag"].stored  # type: ignore[attr-defined]
    revision = items[0].get("revision", 0) if items else stored.revision
    job: Job = stored.job if revision == stored.revision else stored.earlier.get(revision, stored.job)
    return job


def index_of(context: Context) -> int:
    """The index of the item that this task instance runs."""
    index = context["ti"].map_index
    return -1 if index is None else index


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
        job, conf = stored.job, context["dag_run"].conf
        try:
            items = plan_items(job, conf, settings.max_map_length(), stored.revision)
        except DefinitionError as error:
            raise AirflowFailException(f"Nothing was called. {error}") from None
        # For whoever appends to the run, and for whoever changes the definition: this run still goes by this one.
        context["ti"].xcom_push(TERMS, Terms.of(job, stored.revision).written())
        self.log.info(
            "This run has %d items, %d at a time%s",
            len(items),
            job.configuration.max_concurrent_requests,
            " (payload given by the trigger)" if conf and conf.get("payload") else "",
        )
        return items


class PayloadOperator(_JobOperator):
    """Makes one attempt of one payload item.

    :param item: the item as the plan wrote it; comes from mapping.
    """

    ui_color = "#e6f4ea"

    def __init__(self, *, item: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item = item

    @property
    def item_name(self) -> str:
        """The item by API name and parameters, as the grid shows it."""
        return item_name(self.item["api"], parameters_of(self.item))

    def execute(self, context: Context) -> None:
        policy = policy_of(self.item)
        number = attempt_number(context["ti"].try_number, context["ti"].max_tries)
        try:
            if self._is_paused(context):
                self.log.info("The job is paused: this item goes on when it is resumed")
                # The scheduler does not look at paused DAGs, so nothing polls until then.
                raise later()
            self._attempt(context, number, policy.maximum_attempts)
        except AttemptError as error:
            self._give_up_or_retry(context, error, number, policy.maximum_attempts)
        except Stopped:
            stopped = AttemptError("worker-lost", f"the worker was stopped during attempt {number}")
            self._give_up_or_retry(context, stopped, number, policy.maximum_attempts)

    def _is_paused(self, context: Context) -> bool:
        try:
            return bool(context["ti"].get_dag(context["ti"].dag_id).is_paused)
        except Exception as error:
            raise AttemptError("internal-error", f"Airflow did not say whether the job is paused: {error}") from error

    def _attempt(self, context: Context, number: int, most: int) -> None:
        job, memory = job_of(context, [self.item]), ItemMemory(context)
        if number > most:
            # Airflow restarts an item whose worker died without asking the retry policy.
            if not (job.target.type == "run-api" and memory.now()):
                raise AttemptError("worker-lost", f"the worker died during attempt {most} of {most}", retriable=False)
            number = most  # nothing is started anew: the last attempt's run is waited for
        try:
            attempt = self._attempt_of(context, job, number, memory)
            self.log.info("Attempt %d: %s", number, self.item_name)
            result = asyncio.run(_call(job, attempt))
        except AttemptError:
            raise
        except Exception as error:
            self.log.exception("Unexpected error")
            raise AttemptError("internal-error", f"{type(error).__name__}: {error}") from error
        # The call was made, and did what it does: it is not made again because what it brought has no place.
        if result.extended_payloads:
            count = append_children(self._permit(context, own=True), attempt.item_id, result.extended_payloads)
            self.log.info("The answer appended %d items to the run", count)
        outcome = self._outcome(context, completed(index_of(context), number, result))
        try:
            store_outcome(context, outcome)
        except Exception as error:
            text = f"the call succeeded and its result could not be stored: {type(error).__name__}: {error}"
            raise AttemptError("internal-error", text, retriable=False) from error
        self._deliver(context, job, outcome)

    def _deliver(self, context: Context, job: Job, outcome: dict[str, Any]) -> None:
        try:
            deliver_item(context, job, self.item, outcome)
        except Stopped:
            # The item has ended and its outcome is kept; closing the run sends what this worker no longer can.
            self.log.warning("Stopped while the result was being delivered; closing the run will try again")

    def _outcome(self, context: Context, outcome: dict[str, Any]) -> dict[str, Any]:
        """With the id of the message in which it is delivered, if each item has one of its own."""
        ti = context["ti"]
        return {**outcome, "messageId": message_of_item(ti.dag_id, ti.run_id, index_of(context), ti.max_tries)}

    def _attempt_of(self, context: Context, job: Job, number: int, memory: ItemMemory) -> Attempt:
        ti = context["ti"]
        grant = None
        if getattr(job.target, "send_run_token", False):
            grant = Grant(append_url(ti.dag_id, ti.run_id), run_token(self._permit(context, own=False)))
        return Attempt(
            job_id=ti.dag_id,
            run_id=ti.run_id,
            index=index_of(context),
            number=number,
            item_id=item_id(ti.dag_id, ti.run_id, index_of(context)),
            api=self.item["api"],
            parameters=parameters_of(self.item),
            timeout=self.item["requestTimeout"],
            proxy=job.proxy or job.configuration.proxy,
            auth_session=job.auth_session,
            memory=memory,
            grant=grant,
        )

    def _permit(self, context: Context, *, own: bool) -> Permit:
        ti, run = context["ti"], context["dag_run"]
        return Permit(ti.dag_id, ti.run_id, microseconds(run.run_after), index_of(context), own)

    def _give_up_or_retry(self, context: Context, error: AttemptError, number: int, most: int) -> None:
        if error.retriable and number < most:
            raise error
        # The last word on this item: kept like a result, so that closing the run finds it.
        outcome = self._outcome(context, failed(index_of(context), number, error))
        try:
            store_outcome(context, outcome)
        except Exception:
            self.log.exception("The error could not be stored; closing the run will not know it")
        else:
            self._deliver(context, job_of(context, [self.item]), outcome)
        raise ItemFailedError(error.code, error.message, status_code=error.status_code, retriable=False) from None


async def _call(job: Job, attempt: Attempt) -> Result:
    limits = Limits(settings.number("max_result_bytes"), settings.words("python_targets"))
    async with open_target(job.target, limits) as caller:
        return await caller(attempt)


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
