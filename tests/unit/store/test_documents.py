from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_jobs_plugin.store.documents import (
    MAX_FILE_BYTES,
    DocumentError,
    decode,
    locator,
    parse_json,
    parse_yaml,
)


def test_yaml_is_read_as_json_values_as_yaml_1_2_says() -> None:
    text = "a: no\nb: 010\nc: 1:30\nd: 2026-01-01\ne: 1.5e3\nf: ~\ng:\nh: true\ni: 0x1F\nj: .5\nk: '5'\nl: <<\n"
    assert parse_yaml(text) == {
        "a": "no", "b": 10, "c": "1:30", "d": "2026-01-01", "e": 1500.0, "f": None, "g": None, "h": True,
        "i": "0x1F", "j": 0.5, "k": "5", "l": "<<",
    }  # fmt: skip


def test_anchors_and_merge_keys_work() -> None:
    text = "base: &b {x: 1, y: 1}\nitem: {<<: *b, y: 2}\nboth: {<<: [{y: 5}, *b]}"
    assert parse_yaml(text)["item"] == {"x": 1, "y": 2}
    assert parse_yaml(text)["both"] == {"x": 1, "y": 5}


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' is given twice", (3, 1)),
        ("a: [1, 2", "not YAML", (2, 1)),
        ("a: 1\n\tb: 2", "not YAML", (2, 1)),
        ("x: &a [*a]", "an alias refers to the node that it is in", (1, 4)),
        ("a: *nobody", "undefined alias", (1, 4)),
        ("a: 1\n---\nb: 2", "a single document", (2, 1)),
        ("a: !!python/object:os.system x", "the tag !!python/object:os.system is not one", (1, 4)),
        ("a: \x01", "control characters", (1, 1)),
        ("[" * 5000, "nested deeper", (1, 101)),
        ("- " * 50_000, "nested deeper", (1, 201)),
        ("? " * 50_000, "nested deeper", (1, 201)),
        ("# " + "]" * 400_000 + "\na: " + "[" * 390_000, "nested deeper", (2, 103)),
        ("[ # ]\n" * 20_000, "nested deeper", (101, 1)),
        ("a: !!bool yes", "the tag !!bool is not one", (1, 4)),
        ("a: " + "9" * 5000, "digits", (1, 4)),
        ("a: !!float hunter2", "^this is not the number that its tag says$", (1, 4)),
        ("a: !!int hunter2", "^this is not the number that its tag says$", (1, 4)),
        ("# nothing", "the file is empty", (1, 1)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_yaml_document_is_refused_with_its_place(text: str, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        parse_yaml(text)
    assert (caught.value.line, caught.value.column) == place


def test_aliases_that_unfold_to_something_huge_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    before = time.process_time()
    with pytest.raises(DocumentError, match="unfold to more than 2,000,000"):
        parse_yaml("\n".join(lines))
    assert time.process_time() - before < 1


def test_very_deep_block_nesting_is_refused_and_does_not_crash() -> None:
    with pytest.raises(DocumentError, match="nested deeper than 100 levels"):
        parse_yaml("\n".join(" " * n + "a:" for n in range(3000)))


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ('{"a": 1,\n "a": 2}', "the key 'a' is given twice", (2, 2)),
        ('{"a": NaN}', "NaN is not a JSON number", (1, 7)),
        ('{"a":}', "not JSON: Expecting value", (1, 6)),
        ("[" * 100_000, "nested deeper", (1, 1)),
        ('{"a": ' + "9" * 5000 + "}", "digits", (1, 1)),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(DocumentError, match=message) as caught:
        parse_json(text)
    assert (caught.value.line, caught.value.column) == place


def test_a_repeated_key_among_very_many_is_found_at_once() -> None:
    text = "{" + ", ".join(f'"k{n}": 1' for n in range(200_000)) + ', "k199999": 2}'
    before = time.process_time()
    with pytest.raises(DocumentError, match="the key 'k199999' is given twice"):
        parse_json(text)
    assert time.process_time() - before < 2


def test_bytes_that_are_no_text_are_refused_with_their_place() -> None:
    with pytest.raises(DocumentError, match="not UTF-8: byte 0xff at offset 8") as caught:
        decode(b"a: 1\nb: \xff")
    assert (caught.value.line, caught.value.column) == (2, 4)
    with pytest.raises(DocumentError, match="the file is empty"):
        decode(b" \n")
    with pytest.raises(DocumentError, match="larger than 8 MiB"):
        decode(b"x" * (MAX_FILE_BYTES + 1))
    assert decode("\ufeffa: 1".encode()) == "a: 1"


def test_a_path_leads_to_its_line_in_yaml_and_json() -> None:
    yaml_text = "id: x\npayload:\n  - api: a\n    retry:\n      maximumAttempts: 0\n"
    at = locator(yaml_text)
    assert at(("payload", 0, "retry", "maximumAttempts")) == (5, 7)
    assert at(("payload", 0)) == (3, 5)
    assert at(("payload", 0, "parameters")) == (3, 5), "what is missing is reported where it should stand"
    assert at(("payload", 9)) == (2, 1)
    json_text = '{\n\t"payload": [\n\t\t{"api": "a/b\\/c",\t"retry": 5}\n\t]\n}'
    assert locator(json_text)(("payload", 0, "retry")) == (3, 21)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"<<: {{a{n}: 1}}" for n in range(20_000)),
        "<<: [" + ",".join(f"{{a{n}: 1}}" for n in range(20_000)) + "]",
    ],
    ids=["many merge keys", "one with many mappings"],
)
def test_many_things_that_are_merged_do_not_copy_each_other(text: str) -> None:
    before = time.process_time()
    assert len(parse_yaml(text)) == 20_000
    assert time.process_time() - before < 5


def test_the_first_of_several_merge_keys_has_precedence() -> None:
    assert parse_yaml("<<: {x: 1, y: 1}\n<<: {x: 2, z: 2}\ny: 3") == {"x": 1, "y": 3, "z": 2}


@pytest.mark.parametrize("parse", [parse_yaml, parse_json])
def test_a_long_key_that_is_given_twice_is_not_repeated(parse: Any) -> None:
    key = '"' + "k" * 500 + '"'
    with pytest.raises(DocumentError, match="is given twice") as caught:
        parse(f"{{{key}: 1, {key}: 2}}")
    assert len(caught.value.message) < 100
