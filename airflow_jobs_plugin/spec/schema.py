"""JSON Schema of job files, for editors."""

from __future__ import annotations

from typing import Any

from airflow_jobs_plugin.spec.job import Job


def file_schema() -> dict[str, Any]:
    """The schema that an editor checks a job file against: ``id`` may come from the file's name.

    It accepts what the models accept, and says less: what depends on two fields is for ``airflow-jobs lint``.
    """
    schema = Job.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Airflow job"
    schema["required"] = [name for name in schema.get("required", []) if name != "id"]
    _accept_other_spellings(schema)
    return schema


def _accept_other_spellings(schema: dict[str, Any]) -> None:
    """Add the aliases that the models take beside the published names."""
    from airflow_jobs_plugin.spec.base import names_of
    from airflow_jobs_plugin.spec.job import Configuration
    from airflow_jobs_plugin.spec.payload import PayloadItem

    definitions = schema.get("$defs", {})
    for model, part in ((Job, schema), (Configuration, definitions["Configuration"])):
        _alias(part, names_of(model), keep_required=True)
    item = definitions["PayloadItem"]
    _alias(item, names_of(PayloadItem), keep_required=False)
    item["anyOf"] = [{"required": [name]} for name in ("api", "apiName", "api_name")]


def _alias(part: dict[str, Any], spellings: dict[str, str], *, keep_required: bool) -> None:
    properties = part["properties"]
    known = {spellings[name]: value for name, value in properties.items() if name in spellings}
    for spelling, name in spellings.items():
        if spelling not in properties and name in known:
            properties[spelling] = known[name]
    if not keep_required:
        part.pop("required", None)
