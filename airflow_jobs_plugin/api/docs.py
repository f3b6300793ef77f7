"""The page that shows the OpenAPI document: one piece of HTML, made here, that loads nothing and runs nothing."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup, escape

#: Sent with the page, should anything of a definition ever get past the escaping.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
}
#: The methods in the order in which a path's operations are shown.
METHODS = ("get", "post", "put", "patch", "delete")
_CODE = re.compile(r"`([^`]+)`")
_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} entries"),
    ("maxItems", "at most {} entries"),
)


def page(document: dict[str, Any]) -> str:
    """The document as HTML. Takes an OpenAPI 3.1 document as FastAPI makes it."""
    tags = [{**tag, "operations": list(_operations(document, tag["name"]))} for tag in document.get("tags", [])]
    schemas = [_schema(name, schema) for name, schema in document.get("components", {}).get("schemas", {}).items()]
    return _template().render(document=document, tags=tags, schemas=schemas)


def _operations(document: dict[str, Any], tag: str) -> Any:
    for path, methods in document["paths"].items():
        for method in METHODS:
            # An operation is under its most particular tag, which is the last one.
            if method in methods and methods[method]["tags"][-1] == tag:
                yield {**methods[method], "method": method.upper(), "path": path}


def _schema(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    required = set(schema.get("required", []))
    return {
        "name": name,
        "description": schema.get("description", ""),
        "all_of": schema.get("allOf", []),
        "properties": schema.get("properties", {}),
        "required": required,
    }


def _prose(text: str) -> Markup:
    """Paragraphs, and code between backticks."""
    paragraphs = [_code(" ".join(part.split())) for part in text.strip().split("\n\n") if part.strip()]
    return Markup("").join(Markup("<p>{}</p>").format(paragraph) for paragraph in paragraphs)


def _code(text: str) -> Markup:
    pieces = _CODE.split(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def _type(schema: dict[str, Any]) -> Markup:
    """What a value may be, in words; references as links."""
    if reference := schema.get("$ref"):
        name = str(reference).rsplit("/", 1)[-1]
        return Markup('<a href="#schema-{}">{}</a>').format(name, name)
    if "const" in schema:
        return Markup("<code>{}</code>").format(_json(schema["const"]))
    if "enum" in schema:
        return Markup(" or ").join(Markup("<code>{}</code>").format(_json(value)) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return Markup(" or ").join(dict.fromkeys(map(_type, schema[several])))
    kind = schema.get("type")
    if kind == "array":
        return Markup("list of {}").format(_type(schema.get("items", {})))
    if kind == "object" and "properties" in schema:
        return Markup("<code>{{{}}}</code>").format(", ".join(schema["properties"]))
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return Markup("object of {}").format(_type(schema["additionalProperties"]))
    return escape(schema.get("format") or kind or "any JSON")


def _limits(schema: dict[str, Any]) -> str:
    found = [text.format(_number(schema[name])) for name, text in _BOUNDS if name in schema]
    if "pattern" in schema:
        found.append(f"matches {schema['pattern']}")
    if schema.get("default") is not None and "Default" not in schema.get("description", ""):
        found.append(f"default {_json(schema['default'])}")
    return ", ".join(found)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _example(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"prose": _prose, "code": _code, "type": _type, "limits": _limits, "example": _example}
    return environment.from_string(Path(__file__).with_name("docs.html").read_text("utf-8"))
