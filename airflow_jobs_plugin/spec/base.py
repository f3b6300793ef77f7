"""What all models of a definition share: strictness, camelCase, errors that suggest, JSON-only values."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from airflow_jobs_plugin.spec.faults import LONGEST_QUOTE, dotted, quoted

#: How deep objects and lists may nest in parameters: far beyond real payloads, far within every JSON parser.
MAX_DEPTH = 64


class Model(BaseModel):
    """Base of every model: frozen, strict, camelCase with snake_case accepted, unknown fields refused.

    Errors are pydantic's ``ValidationError`` (a ``ValueError``); each has the path of the field in ``loc``, and
    none repeats the input, which may be a secret.
    """

    model_config = ConfigDict(
        # Each model is built when it is first used: who only parses a duration, or loads the package, pays for none.
        defer_build=True,
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        alias_generator=to_camel,
        hide_input_in_errors=True,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_names(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return handler(data)
        except ValidationError as error:
            # Only what this model itself refused: the lines of nested models have been through here already.
            lines = error.errors(include_url=False, include_context=True)
            if not any(_is_own_unknown_field(line) or line["type"] == "model_type" for line in lines):
                raise
            raise ValidationError.from_exception_data(
                cls.__name__, [_explained(cls, line) for line in lines], hide_input=True
            ) from None


def raise_at(title: str, faults: list[tuple[tuple[str | int, ...], str]]) -> None:
    """Raise a ``ValidationError`` with a line per ``(path below this model, message)``; nothing if empty."""
    if faults:
        raise ValidationError.from_exception_data(
            title,
            [
                InitErrorDetails(type=PydanticCustomError("invalid", "{message}", {"message": m}), loc=loc, input=None)
                for loc, m in faults
            ],
            hide_input=True,
        )


def names_of(model: type[BaseModel]) -> dict[str, str]:
    """Every accepted spelling of the model's fields, mapped to the field's name in Python."""
    spellings: dict[str, str] = {}
    for name, field in model.model_fields.items():
        spellings[name] = name
        for alias in (field.alias, field.validation_alias, field.serialization_alias):
            for choice in getattr(alias, "choices", [alias]):
                if isinstance(choice, str):
                    spellings[choice] = name
    return spellings


def did_you_mean(word: str, known: list[str]) -> str:
    """``"; did you mean 'payload'?"`` for the nearest known word, or the list of them where none is near."""
    word = word[:LONGEST_QUOTE]
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if not near:
        folded = {k.lower().replace("_", ""): k for k in known}
        near = get_close_matches(word.lower().replace("_", "").replace("-", ""), list(folded), n=1, cutoff=0.6)
        near = [folded[n] for n in near]
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"


def _published_names(model: type[BaseModel]) -> list[str]:
    return [field.serialization_alias or field.alias or name for name, field in model.model_fields.items()]


def _is_own_unknown_field(line: Any) -> bool:
    return line["type"] == "extra_forbidden" and len(line["loc"]) == 1


def _explained(model: type[BaseModel], line: Any) -> InitErrorDetails:
    if _is_own_unknown_field(line):
        word = str(line["loc"][0])
        if known := names_of(model).get(word):
            field = model.model_fields[known]
            kind: Any = PydanticCustomError(
                "given_twice",
                "given twice: {field} is the same field as {name}; keep one",
                {"field": quoted(word), "name": repr(field.serialization_alias or field.alias or known)},
            )
        else:
            kind = PydanticCustomError(
                "unknown_field",
                "unknown field {field}{hint}",
                {"field": quoted(word), "hint": did_you_mean(word, _published_names(model))},
            )
    elif line["type"] == "model_type":
        kind = PydanticCustomError("object_expected", "should be an object with named fields")
    else:
        # The line keeps its type, so that nothing that a reader could test for is lost on the way.
        kind = PydanticCustomError(line["type"], "{message}", {"message": line["msg"], **line.get("ctx", {})})
    return InitErrorDetails(type=kind, loc=line["loc"], input=None)


def integral(value: Any) -> Any:
    """Return a float that is a whole number as an int, anything else as it is."""
    # JSON knows one kind of number: clients in other languages write 5.0 where they mean 5.
    return int(value) if type(value) is float and value.is_integer() and abs(value) < 2**53 else value


Integer = Annotated[int, BeforeValidator(integral)]


def check_json(value: Any) -> Any:
    """Return ``value`` if JSON can hold it exactly; else raise ``ValueError`` naming the place.

    JSON values are None, booleans, finite numbers, strings, lists, and dicts with string keys, nested at most
    ``MAX_DEPTH`` deep.
    """
    # Where a value is, is written when it is told, and not before: written for each value of a long list, a long key
    # would fill the memory.
    todo: list[tuple[Any, _Where, int]] = [(value, None, 0)]
    while todo:
        item, where, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        kind = type(item)
        if kind is str:
            _check_text(item, where)
        elif item is None or kind is bool or kind is int:
            continue
        elif kind is float:
            if not math.isfinite(item):
                raise ValueError(f"{_at(where)}{item} is not a JSON number; give a finite one, or null")
        elif kind is dict:
            for key, inner in item.items():
                if type(key) is not str:
                    raise ValueError(f"{_at(where)}the key {quoted(key)} should be a string; put it in quotes")
                _check_text(key, where)
                todo.append((inner, (where, key), depth + 1))
        elif kind is list:
            todo.extend((inner, (where, n), depth + 1) for n, inner in enumerate(item))
        else:
            raise ValueError(f"{_at(where)}a {kind.__name__} is not a JSON value")
    return value


#: The place of a value: that of what it is in, and its key or index there; None: it is in nothing.
_Where = tuple["_Where", str | int] | None


def check_plain(text: str) -> str:
    """Return the text if it is one, without control characters; else raise ``ValueError``, which does not repeat it."""
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        raise ValueError("has control characters, which databases, headers and pages cannot hold; leave them out")
    return text


def _check_text(text: str, where: _Where) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{_at(where)}contains half of a surrogate pair, which is not text") from None
    if "\0" in text:
        raise ValueError(f"{_at(where)}contains a NUL character, which databases and headers cannot hold")


def _at(where: _Where) -> str:
    path: list[str | int] = []
    while where is not None:
        where, part = where
        path.append(part)
    return f"at {dotted(tuple(reversed(path)))}: " if path else ""


def _json_object(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError('should be an object with named values, such as {"page": 1}')
    return check_json(value)


#: A JSON object: parameters and whatever else is passed on as it came.
JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object), WithJsonSchema({"type": "object"})]
