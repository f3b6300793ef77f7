"""A definition while somebody writes it: as a form or as text, from one to the other, stored nowhere yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.control.jobs import JobView
from airflow_jobs_plugin.spec import Job, explain
from airflow_jobs_plugin.ui import fields, texts
from airflow_jobs_plugin.ui.fields import Values
from airflow_jobs_plugin.ui.pages import Form
from airflow_jobs_plugin.ui.spelling import canonical, respelled
from airflow_jobs_plugin.ui.texts import Format

NEW_TEXT = """\
id: nightly-prices
payload:
  - api: list-products
    parameters: {page: 1}
configuration:
  maxConcurrentRequests: 5
  retry: {maximumAttempts: 3, initialInterval: 1s, backoffCoefficient: 2}
schedule:
  calendars:
    - {hour: 2, minute: 30}
  timezone: UTC
target:
  type: http
  connId: airflow_jobs_default
"""


@dataclass
class Draft:
    """What is written so far."""

    job_id: str | None
    """None: of a job that is to be created."""
    mode: Literal["form", "editor"] = "form"
    original: dict[str, Any] = field(default_factory=dict)
    """What the form was made from, as it was written, with all that the form does not show."""
    values: Values = field(default_factory=Values)
    text: str = ""
    format: Format = "yaml"
    etag: str = ""
    """Of the job as it was when the page was opened."""

    @classmethod
    def fresh(cls, editor: bool) -> Draft:
        """Nothing yet."""
        values = Values(
            {"target": "http", "kind": "none", "sink": "none"}, [], [{"api": "", "parameters": "", "rest": ""}]
        )
        return cls(None, "editor" if editor else "form", {}, values, NEW_TEXT if editor else "")

    @classmethod
    def stored(cls, view: JobView, editor: bool) -> Draft:
        """A job as it is, its secrets masked."""
        original = {"id": view.id, **view.definition}
        values = fields.of_definition(canonical(original))
        mode: Literal["form", "editor"] = "editor" if editor else "form"
        return cls(view.id, mode, original, values, texts.yaml_of(original), "yaml", view.etag)

    @classmethod
    def of(cls, form: Form, job_id: str | None) -> Draft:
        """What was sent."""
        try:
            original = json.loads(form.text("base") or "{}")
        except ValueError:
            original = {}
        values = fields.of_form(form)
        if job_id is not None:
            # A job keeps its id, whatever is sent.
            values.texts["id"] = job_id
        return cls(
            job_id,
            "editor" if form.text("mode") == "editor" else "form",
            original if isinstance(original, dict) else {},
            values,
            form.text("text"),
            "json" if form.text("format") == "json" else "yaml",
            form.text("etag", 200),
        )

    def definition(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The definition as it is written so far, and what is wrong with single fields of the form.

        Raises ``TextFaults`` if the text is no definition.
        """
        if self.mode == "form":
            base = canonical(self.original)
            definition, wrong = fields.to_definition(self.values, base)
            return respelled(definition, base, self.original), wrong
        return texts.definition_of(self.text), {}

    def changed(self, do: str) -> str | None:
        """Do what a button says: go from form to text or back, add or remove an item, write the text in a format.

        Returns the field that whoever pressed it will want to go on with. Raises ``TextFaults`` or
        ``InvalidDefinition`` if the text cannot become a form.
        """
        if do == "to-editor" and self.mode == "form":
            self.text, self.mode = texts.written(self.definition()[0], self.format), "editor"
            return "text"
        if do == "to-form" and self.mode == "editor":
            self._to_form()
            return "id" if self.job_id is None else None
        if do in ("to-yaml", "to-json"):
            self.format = "json" if do == "to-json" else "yaml"
            self.text = texts.written(texts.definition_of(self.text), self.format)
            return "text"
        if do == "add-item" and len(self.values.items) < fields.MOST_ITEMS:
            self.values.items.append({"api": "", "parameters": "", "rest": ""})
            return f"item-{len(self.values.items) - 1}-api"
        number = do.removeprefix("remove-")
        if number != do and number.isdecimal() and int(number) < len(self.values.items):
            del self.values.items[int(number)]
            return f"item-{min(int(number), len(self.values.items) - 1)}-api"
        return None

    def _to_form(self) -> None:
        definition = texts.definition_of(self.text)
        if self.job_id is not None:
            definition["id"] = self.job_id
        try:
            Job.model_validate(definition, context={"masked": True})
        except ValidationError as error:
            # A form has no place for what is wrong in a way that it cannot say.
            raise InvalidDefinition(explain(error)) from None
        self.original = definition
        self.values, self.mode = fields.of_definition(canonical(definition)), "form"
