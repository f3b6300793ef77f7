"""From the text of a job file to plain JSON values, and from a path in those back to line and column.

YAML is read as YAML 1.2 reads it: ``no`` is a string, ``1:30`` is a string, dates are strings, so that every
value is one that JSON has. Repeated keys are errors, and so are documents that unfold to something huge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import yaml
from yaml.resolver import BaseResolver

from airflow_jobs_plugin.spec.faults import printable, quoted

try:
    from yaml.cyaml import CParser as _Composer  # type: ignore[attr-defined]
except ImportError:  # PyYAML built without libyaml: the same, slower

    class _Composer(  # type: ignore[no-redef]
        yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer
    ):
        def __init__(self, stream: Any) -> None:
            yaml.reader.Reader.__init__(self, stream)
            yaml.scanner.Scanner.__init__(self)
            yaml.parser.Parser.__init__(self)
            yaml.composer.Composer.__init__(self)


#: Largest job file in bytes.
MAX_FILE_BYTES = 8 * 1024 * 1024
#: Most YAML nodes after aliases are unfolded.
MAX_NODES = 2_000_000
#: Deepest nesting of a file.
MAX_NESTING = 100

_STR, _INT, _FLOAT, _BOOL, _NULL, _MERGE, _MAP, _SEQ = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "merge", "map", "seq")
)

Path = tuple[str | int, ...]
Locate = Callable[[Path], tuple[int, int]]


class DocumentError(Exception):
    """The text is not a document. ``message``, and ``line`` and ``column`` from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class _Loader(_Composer, BaseResolver):
    """Text to nodes. Nodes become values in ``_value``: PyYAML's constructors know YAML 1.1 and Python."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, stream: str) -> None:
        _Composer.__init__(self, stream)
        BaseResolver.__init__(self)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a node that has none written. PyYAML's own does the same, and much that is not used here."""
        if kind is yaml.ScalarNode:
            if implicit[0]:
                for tag, pattern in self.yaml_implicit_resolvers.get(value[:1], ()):
                    if pattern.match(value):
                        return tag
            return _STR
        return _SEQ if kind is yaml.SequenceNode else _MAP

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        """Called for every node; there are no tags by path."""

    def ascend_resolver(self) -> None:
        """Called for every node; there are no tags by path."""

    def dispose(self) -> None:
        """Called by ``yaml.compose``; there is nothing to free."""


# YAML 1.2's core schema in decimal, and merge keys.
for _tag, _pattern, _first in (
    (_BOOL, r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    (_INT, r"[-+]?[0-9]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    (_NULL, r"~|null|Null|NULL|", "~nN"),
    (_MERGE, r"<<", "<"),
):
    # The empty text is null as well.
    _starts = [*_first, ""] if _tag == _NULL else [*_first]
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _starts)


def _value(node: Any, depth: int = 0) -> Any:
    """What a node stands for. Raises ``DocumentError``."""
    tag, kind = node.tag, type(node)
    if kind is yaml.ScalarNode:
        return node.value if tag == _STR else _scalar(node)
    if depth > MAX_NESTING:
        _fail(f"nested deeper than {MAX_NESTING} levels", node)
    if kind is yaml.SequenceNode and tag == _SEQ:
        return [_value(item, depth + 1) for item in node.value]
    if kind is not yaml.MappingNode or tag != _MAP:
        _fail(f"the tag {_written(tag)} is not one of a job file; leave it out", node)
    values: dict[Any, Any] = {}
    merged: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            # The first one wins. Put in, not joined: with many, each join would copy all that came before.
            for name, value in _merged(value_node, depth).items():
                merged.setdefault(name, value)
            continue
        key = key_node.value if key_node.tag == _STR else _value(key_node, depth + 1)
        if isinstance(key, (list, dict)):
            _fail("a key should be a string", key_node)
        if key in values:
            _fail(f"the key {quoted(key)} is given twice", key_node)
        values[key] = _value(value_node, depth + 1)
    return merged | values if merged else values


def _written(tag: str) -> str:
    return printable(tag.replace("tag:yaml.org,2002:", "!!"))


def _merged(node: Any, depth: int) -> dict[Any, Any]:
    """What a merge key brings: one mapping, or several of which the first has precedence."""
    found = _value(node, depth + 1)
    result: dict[Any, Any] = {}
    for part in found if isinstance(found, list) else [found]:
        if not isinstance(part, dict):
            _fail("a merge key takes a mapping, or a list of mappings", node)
        for name, value in part.items():
            result.setdefault(name, value)
    return result


def _scalar(node: Any) -> Any:
    tag, text = node.tag, node.value
    try:
        if tag == _INT:
            return int(text)
        if tag == _FLOAT:
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        # What is tagged as a number may be anything, a secret too.
        told = str(error).partition(";")[0]
        _fail(told if "digits" in told else "this is not the number that its tag says", node)
    if tag == _BOOL and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if tag == _NULL:
        return None
    if tag == _MERGE:
        return text  # "<<" as a value
    _fail(f"the tag {_written(tag)} is not one of a job file; leave it out", node)


def decode(data: bytes) -> str:
    """The text of a file. Raises ``DocumentError`` if it is empty, too large or not UTF-8."""
    if len(data) > MAX_FILE_BYTES:
        raise DocumentError(f"the file is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB; split the job")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise DocumentError(
            f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; save the file as UTF-8",
            line,
            column,
        ) from None
    if not text.strip():
        raise DocumentError("the file is empty; a job needs at least 'payload'")
    return text


def parse_yaml(text: str) -> Any:
    """The one document of a YAML text as JSON values. Raises ``DocumentError``."""
    try:
        _check_nesting(text)
        node = _Loader(text).get_single_node()
        if node is None:
            raise DocumentError("the file is empty; a job needs at least 'payload'")
        if "*" in text:
            _check_size(node)
        return _value(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(_one_line(error), *((mark.line + 1, mark.column + 1) if mark else (1, 1))) from None
    except yaml.YAMLError as error:
        raise DocumentError(" ".join(str(error).split())) from None
    except RecursionError:
        raise DocumentError(f"nested deeper than {MAX_NESTING} levels") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ``DocumentError``."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            at = text.rfind(json.dumps(twice, ensure_ascii=False))
            raise DocumentError(f"the key {quoted(twice)} is given twice", *_position(text, max(at, 0)))
        return value

    def constant(name: str) -> NoReturn:
        raise DocumentError(f"{name} is not a JSON number", *_position(text, text.find(name)))

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg}", error.lineno, error.colno) from None
    except RecursionError:
        raise DocumentError(f"nested deeper than {MAX_NESTING} levels") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise DocumentError(str(error).partition(";")[0]) from None


def locator(text: str) -> Locate:
    """A function from a path to the ``(line, column)``, from 1, of what stands there, or of its nearest parent.

    Reads the text once more: made only when there is a fault to report.
    """
    try:
        # JSON is YAML, but for tabs between tokens; inside JSON strings there are none.
        _check_nesting(text)
        root = yaml.compose(text.replace("\t", " "), Loader=_Loader)  # type: ignore[arg-type]
    except (yaml.YAMLError, RecursionError, DocumentError):
        root = None

    def locate(path: Path) -> tuple[int, int]:
        node, mark = root, root.start_mark if root else None
        for part in path:
            inner = _child(node, part)
            if inner is None:
                break
            node, mark = inner
        return (mark.line + 1, mark.column + 1) if mark else (1, 1)

    return locate


def _child(node: Any, part: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                # A field's own line is where its key stands; an item of a list has no key.
                return value, key.start_mark
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark
    return None


def _check_size(root: Any) -> None:
    """Refuse aliases that refer to themselves or that unfold to more than ``MAX_NODES`` nodes."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any) -> int:
        known = sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in open_nodes:
            _fail("an alias refers to the node that it is in", node)
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(size(key) + size(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item) for item in node.value)
        open_nodes.discard(id(node))
        if total > MAX_NODES:
            _fail(f"its aliases unfold to more than {MAX_NODES:,} values; write them out, or fewer", node)
        sizes[id(node)] = total
        return total

    size(root)


def _check_nesting(text: str) -> None:
    """Refuse what is absurdly deep before the composer sees it, which recurses on the C stack.

    A level takes one of these signs, or a line that is indented further, of which a file cannot have many.
    """
    if sum(map(text.count, ("[", "{", "- ", "? "))) <= 10 * MAX_NESTING:
        return
    # Events come one by one, without recursion.
    parser, depth = _Loader(text), 0
    while parser.check_event():
        event = parser.get_event()
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_NESTING:
                _fail(f"nested deeper than {MAX_NESTING} levels", event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _fail(message: str, node: Any) -> NoReturn:
    raise DocumentError(message, node.start_mark.line + 1, node.start_mark.column + 1)


def _one_line(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return "not YAML: " + ", ".join(" ".join(str(part).split()) for part in parts)


def _position(text: str, offset: int) -> tuple[int, int]:
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1
