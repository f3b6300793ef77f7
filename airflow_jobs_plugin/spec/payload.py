"""A payload item: one API with its parameters."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field

from airflow_jobs_plugin.spec.base import JsonObject, Model
from airflow_jobs_plugin.spec.retry import RetryOverride
from airflow_jobs_plugin.spec.secrets import masked

#: Longest time one attempt may be given, seconds.
MAX_REQUEST_TIMEOUT = 7 * 24 * 3600
#: Length of an item's name in the UI; Airflow keeps 250 characters.
MAX_NAME = 200


# Of ten thousand items most have one of a few names.
@lru_cache(1024)
def _api_name(name: str) -> str:
    if name != name.strip() or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise ValueError("an API name has no control characters, and no space at its ends")
    if any(segment in (".", "..") for segment in name.split("/")):
        raise ValueError("an API name has no '.' or '..' as a path segment")
    name.encode()
    return name


# For readers of the schema; the check itself knows the spaces of all scripts.
_API_NAME = r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"
ApiName = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": _API_NAME}),
    AfterValidator(_api_name),
]
RequestTimeout = Annotated[float, Field(gt=0, le=MAX_REQUEST_TIMEOUT, allow_inf_nan=False)]


class PayloadItem(Model):
    """One API with the parameters to run it with, and its own retry policy and time-out where it has them."""

    api: ApiName = Field(validation_alias=AliasChoices("api", "apiName", "api_name"), serialization_alias="api")
    """Name of the API; the job's target says how the name becomes a call."""
    parameters: JsonObject = Field(default_factory=dict)
    """JSON object passed to the API as it is."""
    retry: RetryOverride | None = None
    """Overrides the job's policy field by field."""
    request_timeout: RequestTimeout | None = None
    """Seconds that one attempt may take; None: the job's."""


def item_name(api: str, parameters: dict[str, Any]) -> str:
    """The item's name for people: ``list-products page=2 pageSize=50``, values of sensitive keys masked.

    At most ``MAX_NAME`` characters, on one line.
    """
    words = [api]
    size = len(api)
    for key, value in masked(parameters).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        words.append(f"{key}={text[: MAX_NAME + 1]}")
        size += len(words[-1]) + 1
        if size > MAX_NAME:
            break
    name = " ".join(" ".join(words).split())
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
