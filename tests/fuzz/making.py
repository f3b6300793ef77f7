"""Inputs from numbers: definitions that are nearly valid, changed, and written as YAML or JSON that is changed again."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

from tests.fuzz import seeds

#: Pieces that texts get in between.
PIECES = [
    "\0", "\x01", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\t", "\r", "\r\n", "\n", "  ", "- ", "? ", ": ", "#", "&a ", "*a", "*a ", "<<: *a",
    "!!str ", "!!python/object/apply:os.system ", "!!binary ", "!!float ", "!!int ", "!!null ", "!<tag:x> ", "! ", "%YAML 1.1\n---\n", "---\n", "...\n",
    "{", "}", "[", "]", ",", '"', "'", "|\n", ">-\n", "\\", "\\u0000", "\\ud800", "\\x", "NaN", "Infinity", "-Infinity", ".nan", ".inf", "1e999", "-",
    "9" * 5000, "1" * 4300, "0x1F", "0o7", "1:30", "2026-01-01", "yes", "~", "null", "=", "@", "`", "%", "///", "/*", "*/", '"a": 1, "a": 2, ', "a: 1\na: 2\n",
]  # fmt: skip
BYTES = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe\xff",
    b"\xff\xfe\0\0",
    b"\x80",
    b"\0",
    b"\xef\xbb\xbf",
]

_SEEDS = seeds.definitions()


def rng_of(seed: str, number: int) -> random.Random:
    """What decides everything about one input."""
    return random.Random(f"{seed}/{number}")


def definition(rng: random.Random) -> Any:
    """A definition that is valid, or was, as Python values: among them such as no JSON text has."""
    made = copy.deepcopy(rng.choice(_SEEDS))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        made = changed(rng, made)
    return made


def changed(rng: random.Random, root: Any) -> Any:
    """The value with something in it changed; it is changed in place where it can be."""
    places = list(_places(root))
    if not places:
        return value(rng)
    parent, key = rng.choice(places)
    name = key if isinstance(key, str) else ""
    do = rng.random()
    if do < 0.45:
        parent[key] = value(rng, name)
    elif do < 0.55:
        parent[key] = _touched(rng, parent[key])
    elif do < 0.63:
        del parent[key]
    elif do < 0.70:
        # A part of another definition, or of this one.
        other, its = rng.choice(list(_places(rng.choice(_SEEDS))))
        # A secret that is moved to where none belongs is none any more.
        part = json.dumps(other[its]) if its == key else json.dumps(other[its]).replace(seeds.SECRET, "moved")
        parent[key] = json.loads(part)
    elif do < 0.80 and isinstance(parent, dict):
        parent[rng.choice(seeds.NAMES if rng.random() < 0.7 else seeds.KEYS)] = value(rng, name)
    elif do < 0.86 and isinstance(parent, dict):
        parent[_misspelled(rng, name)] = parent.pop(key)
    elif do < 0.92 and isinstance(parent, list):
        parent.extend(copy.deepcopy(parent[key]) for _ in range(rng.choice((1, 1, 2, 2, 3, 10, 200))))
    elif do < 0.94:
        parent[key] = nested(rng.choice((5, 60, 63, 64, 65, 66, 130, 300)), rng.random() < 0.5, parent[key])
    elif do < 0.95 and isinstance(parent, dict):
        parent[key] = {f"k{n}": n for n in range(rng.choice((10, 1000)))}
    else:
        parent[key] = _string(rng)
    return root


def value(rng: random.Random, name: str = "") -> Any:
    """Something hostile for a field of that name."""
    fitting = seeds.BY_NAME.get(name)
    if fitting and rng.random() < 0.7:
        return copy.deepcopy(rng.choice(fitting))
    return copy.deepcopy(rng.choice(seeds.VALUES))


def nested(depth: int, lists: bool, inner: Any) -> Any:
    """The value at the bottom of so many lists or objects."""
    for _ in range(depth):
        inner = [inner] if lists else {"a": inner}
    return inner


def _places(root: Any) -> Any:
    todo = [root]
    while todo:
        parent = todo.pop()
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ():
            yield parent, key
            if isinstance(parent[key], (dict, list)):
                todo.append(parent[key])


def _touched(rng: random.Random, old: Any) -> Any:
    if isinstance(old, str):
        at = rng.randrange(len(old) + 1)
        piece = rng.choice(seeds.VALUES)
        return old[:at] + (piece if isinstance(piece, str) else str(rng.choice(PIECES))) + old[at:]
    if isinstance(old, bool) or old is None:
        return rng.choice((True, False, None, 0, "true"))
    if isinstance(old, (int, float)):
        return rng.choice(
            (
                old + 1,
                old - 1,
                -old,
                old * 1000,
                old // 3,
                str(old),
                [old],
                float(old) if abs(old) < 1e300 else 0,
                10**25,
            )
        )
    return [old] if rng.random() < 0.5 else {"a": old}


def _misspelled(rng: random.Random, name: str) -> str:
    if not name:
        return "x"
    at = rng.randrange(len(name))
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return rng.choice(
        (snake, snake, name.upper(), name[:at] + name[at + 1 :], name + "s", name[:at] + "\0" + name[at:], name * 50)
    )


def _string(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return "".join(
            chr(rng.choice((rng.randrange(32), rng.randrange(127), rng.randrange(0x3000), rng.randrange(0x110000))))
            for _ in range(rng.randrange(12))
        )
    if kind < 0.95:
        return rng.choice("?&;=@:/.%-+ \n0aé{}[]\"'\\#*") * rng.choice((1, 2, 63, 64, 200, 1000, 5000))
    # What takes a careless pattern or a careless message for ever.
    return (rng.choice(("?", "&a", "://", ":@", "?a", ".", "/", "a.", "{", " ", "0", "-")) * 40_000)[
        :60_000
    ] + rng.choice(("", "=", "@", "}", "\n"))


# -- texts -----------------------------------------------------------------------------------------------------------


def text(rng: random.Random) -> tuple[str, bytes]:
    """A job file: its name's ending, and what is in it."""
    if rng.random() < 0.002:
        return bomb(rng)
    made = definition(rng)
    if as_json := rng.random() < 0.5:
        written = _json(rng, made)
    else:
        written = _yaml(rng, made, 0).lstrip("\n")
    data = written.encode("utf-8", "surrogatepass" if rng.random() < 0.3 else "backslashreplace")
    if rng.random() < 0.25:
        data = torn(rng, data)
    return ".job.json" if as_json and rng.random() < 0.7 else rng.choice((".job.yaml", ".job.yml")), data


def _json(rng: random.Random, made: Any) -> str:
    indent = rng.choice((None, None, 2))
    try:
        return json.dumps(made, ensure_ascii=rng.random() < 0.5, indent=indent)
    except (ValueError, RecursionError):
        return "{" * 500


def _yaml(rng: random.Random, made: Any, depth: int) -> str:
    """Block style as people write it; leaves as JSON, or plain where they can be misread."""
    if isinstance(made, dict) and made and depth < 40:
        return "".join(
            f"\n{'  ' * depth}{_plain(rng, key)}:{_yaml(rng, inner, depth + 1)}" for key, inner in made.items()
        )
    if isinstance(made, list) and made and depth < 40:
        return "".join(f"\n{'  ' * depth}-{_yaml(rng, inner, depth + 1)}" for inner in made)
    if isinstance(made, str):
        return " " + _plain(rng, made)
    return " " + _json(rng, made)


def _plain(rng: random.Random, made: Any) -> str:
    simple = isinstance(made, str) and made.replace("-", "").replace("_", "").isalnum() and made.isascii()
    return made if simple or (isinstance(made, str) and rng.random() < 0.1) else json.dumps(made)


def torn(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, other = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        do = rng.random()
        if do < 0.5:
            data = data[:at] + rng.choice(PIECES).encode("utf-8", "surrogatepass") + data[at:]
        elif do < 0.6:
            data = data[:at] + rng.choice(BYTES) + data[at:]
        elif do < 0.7:
            data = data[:at] + data[min(other, at + 20) :]
        elif do < 0.8:
            data = data[:other] + data[at:other] + data[other:]
        elif do < 0.85:
            data = data[:at]
        else:
            # A whole line once more, or gone.
            lines = data.split(b"\n")
            line = rng.randrange(len(lines))
            lines[line : line + 1] = [lines[line]] * rng.choice((0, 2, 3))
            data = b"\n".join(lines)
    return data


def bomb(rng: random.Random) -> tuple[str, bytes]:
    """Small texts that are meant to cost much."""
    ending, make = rng.choice(BOMBS)
    return ending, make(rng.choice((100, 1000, 10_000))).encode()


def _in(inner: str) -> str:
    return '{"id": "x", "payload": [{"api": "a", "parameters": {"p": ' + inner + "}}]}"


def _laughs(n: int, width: int = 9) -> str:
    levels = min(n // 4, 30)
    lines = ["a0: &a0 [x" + ",x" * (width - 1) + "]"]
    lines += [f"a{k}: &a{k} [" + ",".join([f"*a{k - 1}"] * width) + "]" for k in range(1, levels)]
    return "\n".join(lines)


def _few_laughs(n: int) -> str:
    # Just below the bound of what aliases may unfold to.
    return (
        "id: x\npayload:\n- api: a\n  parameters:\n    a: &a [" + "x," * 400 + "]\n    b: [" + "*a," * (n // 40) + "]\n"
    )


#: By the ending of the file's name: a text of about that many parts.
BOMBS: list[tuple[str, Callable[[int], str]]] = [
    (".job.json", lambda n: _in("[" * n + "]" * n)),
    (".job.json", lambda n: _in('{"a":' * n + "1" + "}" * n)),
    (".job.json", lambda n: "[" * n),
    (".job.json", lambda n: _in("9" * n)),
    (".job.json", lambda n: _in("1e" + "9" * n)),
    (".job.json", lambda n: _in("1." + "1" * n)),
    (".job.json", lambda n: _in('{"' + "k" * n * 10 + '": [' + ",".join("0" * n) + "]}")),
    (".job.json", lambda n: _in("{" + ",".join(f'"k{k}": "' + "?" * 100 + '="' for k in range(n // 10)) + "}")),
    (".job.json", lambda n: _in('"' + "?" * n * 10 + '="')),
    (".job.json", lambda n: _in('"' + "://a" * n + '@"')),
    (".job.json", lambda n: '{"id": "x", "payload": [' + ",".join(['{"api": ""}'] * n) + "]}"),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], ' + ",".join(f'"f{k}": 1' for k in range(n)) + "}"),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "' + "f" * n * 10 + '": 1}'),
    (".job.json", lambda n: '{"' + "d" * n * 10 + '": 1, "' + "d" * n * 10 + '": 1}'),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "sink": {"type": "' + "t" * n * 10 + '"}}'),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "schedule": {"calendars": [' + ",".join(['{"hour": 99}'] * n) + "]}}"),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "schedule": {"calendars": [{"hour": [' + ",".join(['"*"'] * n) + "]}]}}"),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "schedule": {"intervals": [{"every": "1s"}], "skip": [' + ",".join(f'{{"second": {k % 60}, "minute": {k % 59}, "hour": {k % 23}, "dayOfMonth": {k % 31 + 1}}}' for k in range(min(n, 1000))) + "]}}"),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "schedule": {"intervals": [' + ",".join(f'{{"every": {1000 + k}, "offset": {k}}}' for k in range(min(n, 1000))) + '], "skip": [{"hour": "*", "minute": "*", "second": {"start": 0, "end": 58}}]}}'),
    (".job.json", lambda n: '{"id": "x", "payload": [{"api": "a"}], "schedule": {"calendars": [' + ",".join(f'{{"month": 2, "dayOfMonth": 30, "second": {k % 60}}}' for k in range(min(n, 1000))) + "]}}"),
    (".job.yaml", lambda n: "[" * n),
    (".job.yaml", lambda n: "- " * n),
    (".job.yaml", lambda n: "? " * n),
    (".job.yaml", lambda n: "-\t" * n),
    (".job.yaml", lambda n: "!a &b " * n),
    (".job.yaml", lambda n: "".join(f"{' ' * k}a:\n" for k in range(min(n, 3000)))),
    (".job.yaml", lambda n: "".join(f"{' ' * k}-\n" for k in range(min(n, 3000)))),
    (".job.yaml", lambda n: "".join(f"{' ' * k}?\n" for k in range(min(n, 3000)))),
    (".job.yaml", _laughs),
    (".job.yaml", lambda n: _laughs(n, 2)),
    (".job.yaml", _few_laughs),
    (".job.yaml", lambda n: "a: &a [*a]\n" + "b: *a\n" * n),
    (".job.yaml", lambda n: "id: x\npayload: [{api: a}]\n" + "".join(f"<<: {{a{k}: 1}}\n" for k in range(n))),
    (".job.yaml", lambda n: "id: x\n<<: [" + ",".join(f"{{a{k}: 1}}" for k in range(n)) + "]\n"),
    (".job.yaml", lambda n: "a: &a {" + ",".join(f"k{k}: 1" for k in range(n // 10)) + "}\n" + "<<: *a\n" * (n // 10)),
    (".job.yaml", lambda n: "'" + "a" * n * 10),
    (".job.yaml", lambda n: "a" * n * 10 + ": 1"),
    (".job.yaml", lambda n: "a: |\n" + " x\n" * n),
    (".job.yaml", lambda n: "id: x\npayload:\n" + "- {api: '', parameters: 1}\n" * n),
    (".job.yaml", lambda n: "id: x\npayload:\n- api: a\n  parameters: {" + "k" * n * 10 + ": [" + "0," * n + "]}\n"),
    (".job.yaml", lambda n: "#" + "x" * n * 10 + "\n" + "\n" * n),
    (".job.yaml", lambda n: "%TAG ! tag:x\n" * n + "---\na: 1"),
    (".job.yaml", lambda n: "a: !" + "x" * n * 10 + " 1"),
    (".job.yaml", lambda n: "a: *" + "x" * n * 10),
    (".job.yaml", lambda n: "a: &" + "x" * n * 10 + " 1"),
    (".job.yaml", lambda n: "a: " + "1" * n * 10),
    (".job.yaml", lambda n: "a: " + "1" * n * 10 + "." + "e" * n),
    (".job.yaml", lambda n: '"' + "\\x41" * n * 5 + '": 1'),
]  # fmt: skip
