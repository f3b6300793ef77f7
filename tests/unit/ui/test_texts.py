"""Definitions as text, and a draft between form and text."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_jobs_plugin.control.definitions import InvalidDefinition
from airflow_jobs_plugin.spec import Fault
from airflow_jobs_plugin.store.documents import parse_yaml
from airflow_jobs_plugin.ui import texts
from airflow_jobs_plugin.ui.drafts import NEW_TEXT, Draft
from airflow_jobs_plugin.ui.pages import Form


@pytest.mark.parametrize(
    "value",
    [
        {
            "a": [
                "no",
                "1e3",
                "0o7",
                "1:30",
                "2026-01-01",
                "~",
                "",
                " x ",
                "a: b",
                "*",
                "&",
                "<<",
                "=",
                "null",
                "0x1F",
                ".5",
            ]
        },
        {"lines": "one\ntwo\n\n three", "tab": "a\tb", "odd": "\x85\u2028\ud7ff🙂", "long": "word " * 100},
        [{"deep": [[[{"er": None}]]]}, True, 1.5, 12345678901234567890],
        {"yes": 1, "1": 2, "": 3},
    ],
    ids=str,
)
def test_what_is_written_reads_as_the_same(value: Any) -> None:
    assert parse_yaml(texts.yaml_of(value)) == value
    assert texts.value_of(texts.json_of(value), "") == value


def test_both_formats_are_read_whatever_is_said_to_be_written() -> None:
    assert texts.definition_of('{"id": "a", "payload": []}') == {"id": "a", "payload": []}
    assert texts.definition_of("{id: a, payload: []}") == {"id": "a", "payload": []}
    assert texts.payload_of("- api: a") == texts.payload_of('{"payload": [{"api": "a"}]}') == texts.payload_of("api: a")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "nothing here"),
        ("- a", 1, "is an object"),
        ("id: a\n b: c", 2, "not YAML"),
        ('{"id": "a",\n "id": "b"}', 2, "given twice"),
        ('{"id": "a",\n "b": }', 2, "not JSON"),
        ("a: " + "[" * 200 + "]" * 200, 1, "nested"),
    ],
)
def test_faults_of_a_text_have_their_line(text: str, line: int, says: str) -> None:
    with pytest.raises(texts.TextFaults) as caught:
        texts.definition_of(text)
    assert says in caught.value.faults[0].message
    assert caught.value.faults[0].line == line


@pytest.mark.parametrize("text", ["", "[]", "x", "{a: 1}", "1"])
def test_what_is_no_payload_is_refused(text: str) -> None:
    with pytest.raises(texts.TextFaults):
        texts.payload_of(text)


def test_faults_of_a_definition_are_found_in_its_text() -> None:
    text = "id: a\npayload:\n  - api: a\n    paramters: {}\n"
    (line,) = texts.located(text, [Fault(("payload", 0, "paramters"), "unknown field")])
    assert (line.line, line.column, line.path) == (4, 5, "payload[0].paramters")


def test_a_draft_goes_from_text_to_form_and_back_and_loses_nothing() -> None:
    text = NEW_TEXT + "proxy: http://proxy:3128\nauth_session: {id: s}\n"
    draft = Draft(None, "editor", text=text)
    draft.changed("to-form")
    assert (draft.mode, draft.values["id"], draft.values["time"]) == ("form", "nightly-prices", "02:30")
    draft.changed("add-item")
    draft.values.items[1]["api"] = "count"
    draft.changed("to-editor")
    written = texts.definition_of(draft.text)
    assert written["proxy"] == "http://proxy:3128"
    assert written["auth_session"] == {"id": "s"}
    assert [item["api"] for item in written["payload"]] == ["list-products", "count"]
    draft.changed("to-json")
    assert draft.text.startswith("{")
    assert texts.definition_of(draft.text) == written


def test_what_no_form_can_say_stays_text() -> None:
    draft = Draft(None, "editor", text="id: a\npayload: [{api: a, paramters: {}}]\n")
    with pytest.raises(InvalidDefinition, match="did you mean 'parameters'"):
        draft.changed("to-form")
    assert draft.mode == "editor"


def test_a_job_keeps_its_id_whatever_is_sent() -> None:
    draft = Draft.of(Form({"mode": ["form"], "id": ["another"], "item_api": ["a"], "base": ["no json"]}), "mine")
    definition, _ = draft.definition()
    assert definition["id"] == "mine"


def test_items_are_removed_by_their_place() -> None:
    draft = Draft.fresh(editor=False)
    for name in "bc":
        draft.changed("add-item")
        draft.values.items[-1]["api"] = name
    assert draft.changed("remove-1") == "item-1-api"
    assert [item["api"] for item in draft.values.items] == ["", "c"]
    for odd in ("remove-7", "remove-x", "remove-", "nothing"):
        assert draft.changed(odd) is None


def test_fields_keep_the_names_that_they_were_written_by() -> None:
    text = (
        "id: a\npayload:\n  - apiName: a\n    parameters: {apiKey: '***'}\n  - api: b\n"
        "sink: {type: s3, bucket: abc, access_key_id: '***', secretAccessKey: '***'}\n"
    )
    draft = Draft("a", "editor", text=text)
    draft.changed("to-form")
    draft.values.texts["region"] = "eu-central-1"
    draft.changed("add-item")
    draft.values.items[2]["api"] = "c"
    definition, _ = draft.definition()
    assert definition == {
        "id": "a",
        "target": {"type": "http"},
        "payload": [{"apiName": "a", "parameters": {"apiKey": "***"}}, {"api": "b"}, {"api": "c"}],
        "sink": {
            "type": "s3",
            "bucket": "abc",
            "access_key_id": "***",
            "secretAccessKey": "***",
            "region": "eu-central-1",
        },
    }
