"""What fuzzing (``tests.fuzz.bodies``) has found in the REST API: each of these once went wrong."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from airflow_jobs_plugin.api import errors
from airflow_jobs_plugin.api.jobs import PreviewIn
from airflow_jobs_plugin.errors import DefinitionError
from airflow_jobs_plugin.run.items import override_of
from airflow_jobs_plugin.spec import Job

LONG = "x\0" * 50_000


def test_an_instant_that_is_none_is_not_repeated_whole() -> None:
    with pytest.raises(ValidationError) as caught:
        PreviewIn.model_validate({"schedule": {}, "after": LONG})
    (line,) = caught.value.errors()
    assert "is not a date and time" in line["msg"]
    assert len(line["msg"]) < 400


def test_a_path_that_is_not_there_is_not_repeated_as_it_is() -> None:
    app = FastAPI()
    errors.install(app)
    answer = TestClient(app).get("/a%1B%E2%80%AEb/" + "c" * 5000)
    assert answer.status_code == 404
    message = answer.json()["message"]
    assert message.startswith("there is nothing at /a\\x1b\\u202eb/c")
    assert len(message) < 400


def test_a_key_of_a_triggers_conf_is_not_repeated_whole() -> None:
    job = Job.model_validate({"id": "x", "payload": [{"api": "a"}]})
    with pytest.raises(DefinitionError, match="unknown key") as caught:
        override_of(job, {LONG: 1})
    assert len(str(caught.value)) < 400
