"""Definitions and payloads come from files or standard input; every fault has its place in the text."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_jobs_plugin.demo.server import Reply

from ...terminal import command
from .conftest import Cli, FakeAirflow, refusal

GOOD = "payload:\n  - api: list-products\n    parameters: {page: 1}\n"
CREATED = Reply(201, {"id": "prices", "message": "created", "ready": True})
TRIGGERED = Reply(200, {"jobRunId": "manual__1", "message": "Triggered"})


def stdin(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


# -- definitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prices.job.yaml", GOOD),
        ("prices.yml", GOOD),
        ("prices.job.json", '{"payload": [{"api": "list-products", "parameters": {"page": 1}}]}'),
        ("other.yaml", f"id: prices\n{GOOD}"),
        ("no-suffix", f"id: prices\n{GOOD}"),
        ("json-without-suffix", '{"id":\t"prices", "payload": [{"api": "list-products", "parameters": {"page": 1}}]}'),
    ],
)
def test_a_definition_is_yaml_or_json_and_its_id_its_own_or_the_files(
    airflow: FakeAirflow, cli: Cli, tmp_path: Path, name: str, text: str
) -> None:
    airflow.on("POST /jobs", CREATED)
    (tmp_path / name).write_text(text)
    assert cli("create", tmp_path / name) == 0
    assert cli.out == "Created prices.\n"
    items = [{"api": "list-products", "parameters": {"page": 1}}]
    assert airflow.asked()[0].body == {"id": "prices", "payload": items}


def test_values_arrive_as_they_were_written(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    airflow.on("POST /jobs", CREATED)
    values = (
        "{no: no, time: 1:30, day: 2026-11-23, big: 12345678901234567890, x: 1.50, none: ~, text: 'ü\\n\U0001f600'}"
    )
    (tmp_path / "prices.yaml").write_text(f"payload:\n  - api: x\n    parameters: {values}\n")
    assert cli("create", tmp_path / "prices.yaml") == 0
    assert airflow.asked()[0].body["payload"][0]["parameters"] == {
        "no": "no", "time": "1:30", "day": "2026-11-23", "big": 12345678901234567890, "x": 1.5, "none": None,
        "text": "ü\\n\U0001f600",
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["create", "update"])
@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            "payload:\n  - api: x\n    paramters: {}\n  - {}\n",
            [
                "3:5: payload[0].paramters: unknown field 'paramters'; did you mean 'parameters'?",
                "4:5: payload[1].api: is missing; it is required",
            ],
        ),
        ("payload:\n  - api: x\n    parameters: {a: .nan}\n", ["3:5: payload[0].parameters: at a: nan is not a JSON"]),
        ("id: a b\npayload: [{api: x}]\n", ["1:1: id: 'a b' is not a job id"]),
        ("payload: [}", ["1:11: not YAML: "]),
        ("id: a\nid: b\n", ["2:1: the key 'id' is given twice"]),
        ("- api: x\n", ["1:1: a job file holds an object with fields, not a list"]),
        (" \n", ["1:1: the file is empty; a job needs at least 'payload'"]),
        (b"id: \xff", ["1:5: not UTF-8: byte 0xff at offset 4; save the file as UTF-8"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_asked_for(
    airflow: FakeAirflow, cli: Cli, tmp_path: Path, verb: str, text: str | bytes, faults: list[str]
) -> None:
    path = tmp_path / "prices.job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert cli(verb, path) == 1
    assert cli.out == ""
    lines = cli.err.splitlines()
    assert len(lines) == len(faults)
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(f"{path}:{fault}")
    assert airflow.ledger.all() == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.yaml", "cannot be read: No such file or directory"),
        ("folder", "cannot be read: Is a directory"),
        ("a b.job.yaml", "has no 'id', and its name gives none: 'a b' is not a job id"),
        ("no-suffix", "has no 'id'; give it one, or use --id"),
    ],
)
def test_a_file_that_is_no_job_file(airflow: FakeAirflow, cli: Cli, tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    for other in ("a b.job.yaml", "no-suffix"):
        (tmp_path / other).write_text(GOOD)
    assert cli("create", tmp_path / name) == 1
    assert cli.err.startswith(f"{tmp_path / name}:1:1: {said}")
    assert airflow.ledger.all() == []


def test_what_the_api_finds_wrong_has_its_place_in_the_file_too(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "prices.job.yaml"
    path.write_text(f"{GOOD}  - api: other\nsink:\n  type: webhook\n  url: https://example.com\n")
    faults = (
        ("payload[0].parameters.page", "too high"),
        ("payload[1]", "one too many"),
        ("sink.url", "is not allowed"),
        ("target.connId", "no such connection"),
        ("payload", "5 items are more than [core] max_map_length (3)"),
        ("", "is odd as a whole"),
    )
    said = [
        f"{path}:3:18: payload[0].parameters.page: too high",
        f"{path}:4:5: payload[1]: one too many",
        f"{path}:7:3: sink.url: is not allowed",
        f"{path}:1:1: target.connId: no such connection",
        f"{path}:1:1: payload: 5 items are more than [core] max_map_length (3)",
        f"{path}:1:1: is odd as a whole",
    ]
    airflow.on("POST /jobs", refusal(422, "all", *faults))
    airflow.on("PUT /jobs/prices", refusal(422, "all", *faults))
    for verb in ("create", "update"):
        for options in ((), ("--json",)):
            assert cli(verb, path, *options) == 1
            assert cli.out == ""
            assert cli.err.splitlines() == said


def test_an_id_on_the_command_line_wins(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    airflow.on("POST /jobs", CREATED)
    (tmp_path / "a.yaml").write_text(f"id: a\n{GOOD}")
    assert cli("create", tmp_path / "a.yaml", "--id", "prices") == 0
    assert airflow.asked()[0].body["id"] == "prices"
    assert cli("create", tmp_path / "a.yaml", "--id", "../x") == 1
    assert cli.err.startswith(f"{tmp_path / 'a.yaml'}:1:1: id: '../x' is not a job id")
    assert len(airflow.asked()) == 1


def test_three_asterisks_keep_a_secret_and_are_none(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "prices.job.yaml"
    path.write_text(f"{GOOD}sink: {{type: webhook, url: 'https://example.com/x', secret: '***'}}\n")
    airflow.on("PUT /jobs/prices", Reply(200, {"id": "prices", "message": "updated job successfully", "ready": True}))
    assert cli("update", path) == 0
    assert airflow.asked()[0].body["sink"]["secret"] == "***"
    assert cli("create", path) == 1
    assert f"{path}:4:" in cli.err
    assert airflow.asked("POST") == []


@pytest.mark.parametrize("text", [f"id: prices\n{GOOD}", '{"id": "prices", "payload": [{"api": "list-products"}]}'])
def test_a_definition_comes_from_standard_input(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    airflow.on("POST /jobs", CREATED)
    stdin(monkeypatch, text)
    assert cli("create", "-") == 0
    assert airflow.asked()[0].body["payload"][0]["api"] == "list-products"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD, "<stdin>:1:1: has no 'id'; give it one, or use --id\n"),
        ('{"id": "a", "payload": [\n {"api": 1}]}', "<stdin>:2:3: payload[0].api: Input should be a valid string\n"),
        ("", "<stdin>:1:1: the file is empty; a job needs at least 'payload'\n"),
    ],
)
def test_faults_of_standard_input_have_places(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    stdin(monkeypatch, text)
    assert cli("create", "-") == 1
    assert cli.err == said
    assert airflow.ledger.all() == []


# -- payloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "- api: a\n- api: b\n  parameters: {n: 1}\n",
        "payload:\n  - api: a\n  - {api: b, parameters: {n: 1}}\n",
        '[{"api": "a"}, {"api": "b", "parameters": {"n": 1}}]',
        '{"payload": [{"api": "a"}, {"api": "b", "parameters": {"n": 1}}]}',
    ],
)
def test_a_payload_is_a_list_or_an_object_with_one(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    airflow.on("POST /jobs/prices/trigger", TRIGGERED)
    (tmp_path / "items").write_text(text)
    assert cli("trigger", "prices", "--payload", tmp_path / "items") == 0
    stdin(monkeypatch, text)
    assert cli("trigger", "prices", "--payload", "-", "--json") == 0
    body = {"payload": [{"api": "a"}, {"api": "b", "parameters": {"n": 1}}]}
    assert [request.body for request in airflow.asked()] == [body, body]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- api: a\n- {}\n- api: b\n  parameters: 3\n", ["2:3: payload[1].api", "4:3: payload[2].parameters"]),
        ("payload:\n  - api: a\n  - {}\n", ["3:5: payload[1].api: is missing; it is required"]),
        ("[]", ["1:1: payload: "]),
        ("payload: []\n", ["1:1: payload: "]),
        ("payload: x\n", ["1:1: payload: "]),
        ("hello\n", ["1:1: payload: "]),
        ("payload: [{api: a}]\nnote: x\n", ["1:1: a payload is a list of items, or an object with the one field"]),
        ("null\n", ["1:1: payload: "]),
    ],
)
def test_what_is_wrong_with_a_payload_is_told_with_its_place(
    airflow: FakeAirflow, cli: Cli, monkeypatch: pytest.MonkeyPatch, text: str, said: list[str]
) -> None:
    stdin(monkeypatch, text)
    assert cli("trigger", "prices", "--payload", "-") == 1
    assert [line[: len(f"<stdin>:{start}")] for line, start in zip(cli.err.splitlines(), said, strict=True)] == [
        f"<stdin>:{start}" for start in said
    ]
    assert airflow.ledger.all() == []


@pytest.mark.parametrize(
    ("text", "places"),
    [("- api: a\n- api: b\n", ["2:3", "1:1", "1:1"]), ("payload:\n  - api: a\n  - api: b\n", ["3:5", "1:1", "1:1"])],
)
def test_what_the_api_finds_wrong_with_a_payload_has_its_place_in_the_file_too(
    airflow: FakeAirflow, cli: Cli, tmp_path: Path, text: str, places: list[str]
) -> None:
    faults = (("payload[1].api", "not here"), ("payload", "too many"), ("note", "too long"))
    airflow.on("POST /jobs/prices/trigger", refusal(422, "all", *faults))
    (tmp_path / "items.yaml").write_text(text)
    assert cli("trigger", "prices", "--payload", tmp_path / "items.yaml") == 1
    said = [f"{path}: {message}" for path, message in faults]
    assert cli.err.splitlines() == [
        f"{tmp_path / 'items.yaml'}:{place}: {text}" for place, text in zip(places, said, strict=True)
    ]


def test_a_payload_from_a_pipe(airflow: FakeAirflow) -> None:
    airflow.on("POST /jobs/prices/trigger", TRIGGERED)
    items: list[dict[str, Any]] = [{"api": "x", "parameters": {"n": n}} for n in range(5000)]
    words = command("trigger", "prices", "--payload", "-")
    done = subprocess.run(words, input=json.dumps(items).encode(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Triggered: manual__1\n", b"")
    assert airflow.asked()[0].body == {"payload": items}
