"""Definitions and payloads as people write them: YAML or JSON, each fault with its line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from airflow_jobs_plugin.spec import Fault
from airflow_jobs_plugin.spec.faults import dotted
from airflow_jobs_plugin.store import documents

Format = Literal["yaml", "json"]


@dataclass(frozen=True)
class Line:
    """A fault, and where it is in the text: ``line`` and ``column`` from 1, 0 for none; ``path`` in the definition."""

    message: str
    line: int = 0
    column: int = 0
    path: str = ""


class TextFaults(Exception):
    """A text is wrong."""

    def __init__(self, faults: list[Line]) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults


class _Dumper(yaml.SafeDumper):
    """YAML for people: lists indented, texts of several lines as blocks, no aliases."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists below their key."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write what is there twice twice."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def yaml_of(value: Any) -> str:
    """The value as YAML; as JSON, which is YAML too, where it would not read as the same again."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    try:
        # PyYAML writes YAML 1.1: texts such as 0o7 and 1e3 are numbers to readers of 1.2.
        same = documents.parse_yaml(text) == value
    except documents.DocumentError:
        same = False
    return text if same else json_of(value)


def json_of(value: Any) -> str:
    """The value as JSON with a line per value."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Ends of lines to YAML, within texts.
    for odd in "\x85\u2028\u2029\ufeff":
        text = text.replace(odd, f"\\u{ord(odd):04x}")
    return text + "\n"


def written(value: Any, format: Format) -> str:
    """The value in that format."""
    return json_of(value) if format == "json" else yaml_of(value)


def value_of(text: str, empty: str) -> Any:
    """What a text says. Raises ``TextFaults``; ``empty`` is what to say of one that has nothing in it."""
    if not text.strip():
        raise TextFaults([Line(empty, 1, 1)])
    if len(text) > documents.MAX_FILE_BYTES:
        raise TextFaults([Line(f"longer than {documents.MAX_FILE_BYTES // 1024 // 1024} MiB")])
    # YAML may begin with a brace, too; but with quotes after it JSON is meant, and what is wrong with it as that.
    json_is_meant = text.lstrip()[0] in "[{" and text.lstrip("[{ \t\n").startswith('"')
    parse = documents.parse_json if json_is_meant else documents.parse_yaml
    try:
        return parse(text)
    except documents.DocumentError as error:
        raise TextFaults([Line(error.message, error.line, error.column)]) from None


def definition_of(text: str) -> dict[str, Any]:
    """The definition that a text is. Raises ``TextFaults``."""
    value = value_of(text, "There is nothing here yet; a job needs at least an id and a payload")
    if not isinstance(value, dict):
        raise TextFaults([Line("a definition is an object with fields such as id and payload", 1, 1)])
    return value


def payload_of(text: str) -> list[Any]:
    """The list of items that a text is, or an object with the list as its one field. Raises ``TextFaults``."""
    value = value_of(text, "There are no items here")
    if isinstance(value, dict) and list(value) == ["payload"]:
        value = value["payload"]
    if isinstance(value, dict) and ("api" in value or "apiName" in value):
        value = [value]
    if not isinstance(value, list) or not value:
        raise TextFaults([Line('a payload is a list of items, such as [{"api": "list-products"}]', 1, 1)])
    return value


def located(text: str, faults: list[Fault]) -> list[Line]:
    """Faults of the definition that a text is, each with its line."""
    locate = documents.locator(text)
    return [Line(fault.message, *locate(fault.path), path=dotted(fault.path)) for fault in faults]
