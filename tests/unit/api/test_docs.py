from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from airflow_jobs_plugin.api.docs import page

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>`<b>`&lt;"""


class Tags(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def document(text: str) -> dict[str, Any]:
    """A document that says ``text`` wherever it can say something."""
    content = {text: {"schema": {"type": "string"}, "example": text}, "b": {"schema": {"enum": [text]}}}
    operation = {
        "tags": [text], "operationId": text, "summary": text, "description": text,
        "parameters": [{"name": text, "in": text, "description": text, "schema": {"type": text, "pattern": text}}],
        "requestBody": {
            "content": {text: {"schema": {"$ref": text}, "examples": {text: {"summary": text, "value": text}}}},
        },
        "responses": {text: {"description": text, "headers": {text: {"description": text}}, "content": content}},
    }  # fmt: skip
    schema = {
        "description": text,
        "required": [text],
        "allOf": [{"$ref": text}],
        "properties": {
            text: {
                "description": text, "default": text,
                "anyOf": [{"const": text}, {"type": "object", "properties": {text: {}}}],
            },
        },
    }  # fmt: skip
    return {
        "info": {"title": text, "version": text, "description": text},
        "servers": [{"url": text}],
        "tags": [{"name": text, "description": text}],
        "paths": {text: {"get": operation}},
        "components": {"schemas": {text: schema}},
    }


def test_whatever_a_document_says_is_text() -> None:
    harmless, evil = Tags(page(document("harmless"))), Tags(page(document(EVIL)))
    assert evil.found == harmless.found
    assert evil.attributes == harmless.attributes
    assert not evil.found & {"script", "img", "b"}
    assert "<script>alert(1)</script>" in evil.text


def test_bounds_and_types_are_said_in_words() -> None:
    made = document("x")
    made["components"]["schemas"]["x"]["properties"] = {
        "count": {"type": "integer", "minimum": 1.0, "maximum": 1_000_000, "default": 10},
        "ratio": {"type": "number", "exclusiveMinimum": 0.5},
        "when": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]},
        "days": {"type": "array", "items": {"enum": ["MONDAY", "FRIDAY"]}, "minItems": 1},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "anything": {},
    }
    text = Tags(page(made)).text
    for said in (
        "at least 1, at most 1,000,000, default 10",
        "more than 0.5",
        "date-time or null",
        'list of "MONDAY" or "FRIDAY"',
        "object of string",
        "any JSON",
    ):
        assert said in text
