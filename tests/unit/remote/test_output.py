"""What is written where: files whole or not at all, terminals without control characters, pipes as it came."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_jobs_plugin.demo.server import Reply
from airflow_jobs_plugin.remote.text import cut, json_text, safe, short, span, table

from ...terminal import command, on_terminal
from .conftest import Cli, FakeAirflow, item_of, job_of, query, refusal, run_of

RUN = "/jobs/prices/runs/manual__1"
RESULTS = f"GET {RUN}/results"
LINES = '{"n": 1, "text": "ü"}\n{"n": 2}\n'.encode()
CSV = b'index,api\r\n0,"two\nlines"\r\n'
JSONL_TYPE = {"Content-Type": "application/x-ndjson"}
CSV_TYPE = {"Content-Type": "text/csv; charset=utf-8"}
#: What could clear a screen, ring, write to the right of itself, or set a title.
EVIL = "a\x1b[2J\x07\x9b2J\u202e\x7f\x1b]0;owned\x07\rb\u2028c"


@contextmanager
def breaking_off(file: Path) -> Iterator[str]:
    """A server that hangs up in the middle of the results; puts a token into the file."""
    file.write_text("t0ken\n")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n")
                connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n6\r\n{}\n{}\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(60)


# -- results to files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "asked", "body", "kind"),
    [
        ((), "jsonl", LINES, JSONL_TYPE),
        (("--format", "jsonl"), "jsonl", LINES, JSONL_TYPE),
        (("--format", "csv"), "csv", CSV, CSV_TYPE),
    ],
)
def test_results_go_to_a_file_byte_by_byte(
    airflow: FakeAirflow,
    cli: Cli,
    tmp_path: Path,
    options: tuple[str, ...],
    asked: str,
    body: bytes,
    kind: dict[str, str],
) -> None:
    airflow.on(RESULTS, Reply(200, body, kind))
    file = tmp_path / "results"
    assert cli("results", "prices", "manual__1", *options, "--output", file) == 0
    assert file.read_bytes() == body
    assert (cli.out, cli.err) == ("", f"{len(body)} bytes written to {file}\n")
    assert query(airflow.asked()[0]) == {"format": asked}
    assert cli("results", "prices", "manual__1", *options, "--output", file, "--json") == 0
    assert json.loads(cli.out) == {"output": str(file), "format": asked, "bytes": len(body)}
    assert list(tmp_path.iterdir()) == [file]


def test_an_older_file_is_replaced_where_a_link_leads(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    airflow.on(RESULTS, Reply(200, LINES, JSONL_TYPE))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "results").write_text("older\n" * 1000)
    (tmp_path / "link").symlink_to("kept/results")
    assert cli("results", "prices", "manual__1", "--output", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept" / "results").read_bytes() == LINES


def test_results_that_break_off_leave_an_older_file_as_it_was(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "results"
    file.write_text("all of the older ones\n")
    with breaking_off(tmp_path / "token") as url:
        assert cli("results", "a", "b", "--output", file, "--url", url, "--token-file", tmp_path / "token") == 1
    assert cli.err.startswith(f"the connection to {url} broke: ")
    assert file.read_text() == "all of the older ones\n"
    assert {path.name for path in tmp_path.iterdir()} == {"results", "token"}


def test_results_that_break_off_on_standard_output_are_a_failure(cli: Cli, tmp_path: Path) -> None:
    with breaking_off(tmp_path / "token") as url:
        assert cli("results", "a", "b", "--url", url, "--token-file", tmp_path / "token") == 1
    assert cli.out in ("", "{}\n{}\n")
    assert cli.err.startswith(f"the connection to {url} broke: ")


@pytest.mark.parametrize(
    "reply",
    [refusal(404, "there is no run 'manual__1'"), Reply(200, b"<html>", {"Content-Type": "text/html"}), Reply(502)],
    ids=["404", "html", "502"],
)
def test_without_results_there_is_no_file(airflow: FakeAirflow, cli: Cli, tmp_path: Path, reply: Reply) -> None:
    airflow.on(RESULTS, reply)
    for options in (("--output", tmp_path / "x"), ()):
        assert cli("results", "prices", "manual__1", *options) == 1
        assert cli.out == ""
        assert cli.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_results_makes_an_empty_file(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    airflow.on(RESULTS, Reply(200, b"", JSONL_TYPE))
    assert cli("results", "prices", "manual__1", "--output", tmp_path / "x") == 0
    assert (tmp_path / "x").read_bytes() == b""


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere/x", "No such file or directory"), ("folder", "Is a directory"), ("file/x", "Not a directory")],
)
def test_a_file_that_cannot_be_written_is_told(
    airflow: FakeAirflow, cli: Cli, tmp_path: Path, name: str, said: str
) -> None:
    airflow.on(RESULTS, Reply(200, LINES, JSONL_TYPE))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert cli("results", "prices", "manual__1", "--output", tmp_path / name) == 1
    assert cli.err == f"{tmp_path / name} cannot be written: {said}\n"


def test_results_go_into_a_pipe_as_they_come(airflow: FakeAirflow, cli: Cli, tmp_path: Path) -> None:
    airflow.on(RESULTS, Reply(200, LINES, JSONL_TYPE))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert cli("results", "prices", "manual__1", "--output", pipe) == 0
    reader.join(60)
    assert read == [LINES]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("options", [(), ("--output", "-"), ("--json",)])
def test_results_go_to_standard_output_byte_by_byte(airflow: FakeAirflow, options: tuple[str, ...]) -> None:
    evil = b'{"text": "\x1b[2J"}\r\n\xff\n'
    airflow.on(RESULTS, Reply(200, evil, JSONL_TYPE))
    done = subprocess.run(command("results", "prices", "manual__1", *options), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, evil, b"")


# -- pipes whose reader has gone, disks that are full ---------------------------------------------------------------


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def environment(request: pytest.FixtureRequest, airflow: FakeAirflow) -> dict[str, str]:
    """Output is written at the end, or at once as some containers have it."""
    return os.environ | {"PYTHONUNBUFFERED": request.param}


@pytest.mark.parametrize("count", [1, 2000])
@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("results", "prices", "manual__1")], ids=" ".join)
def test_a_reader_that_has_gone_is_no_failure(
    airflow: FakeAirflow, environment: dict[str, str], count: int, words: tuple[str, ...]
) -> None:
    jobs = [job_of(f"job-{n}") for n in range(count)]
    airflow.on("GET /jobs", Reply(200, jobs, {"X-Total-Count": str(count)}))
    airflow.on(RESULTS, Reply(200, LINES * count, JSONL_TYPE))
    process = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == 0


def test_a_failure_stays_one_when_its_reader_has_gone(tmp_path: Path) -> None:
    (tmp_path / "bad.job.yaml").write_text("payload: []\n")
    process = subprocess.Popen(
        command("lint", tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": ""},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b"1 fault, 0 jobs without fault\n"
    assert process.wait(60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("count", [1, 2000])
@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("results", "prices", "manual__1")], ids=" ".join)
def test_a_full_disk_is_told(
    airflow: FakeAirflow, environment: dict[str, str], count: int, words: tuple[str, ...]
) -> None:
    jobs = [job_of(f"job-{n}") for n in range(count)]
    airflow.on("GET /jobs", Reply(200, jobs, {"X-Total-Count": str(count)}))
    airflow.on(RESULTS, Reply(200, LINES * count, JSONL_TYPE))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(*words), stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"standard output cannot be written: No space left on device\n")


# -- what others wrote ----------------------------------------------------------------------------------------------


def evil_airflow(airflow: FakeAirflow) -> None:
    """Everything that a stranger may have a say in is hostile."""
    job = job_of("prices", location=EVIL, description=EVIL, target={"type": EVIL, EVIL: EVIL}, etag=EVIL)
    job["sink"] = {"type": EVIL, "url": EVIL}
    job["payload"] = [{"apiName": EVIL, "parameters": {EVIL: EVIL}}]
    error = {"code": EVIL, "message": EVIL, "statusCode": 503}
    run = {
        **run_of("FAILURE", succeeded=1, failed=1),
        "id": EVIL,
        "job_id": EVIL,
        "note": EVIL,
        "error": {"message": EVIL},
        "reason": {"message": EVIL},
        "delivery": {"status": "delivered", "to": EVIL},
    }
    items = [item_of(0, "FAILED", apiName=EVIL, parameters={EVIL: EVIL}, error=error), item_of(1, result=EVIL)]
    airflow.on("GET /jobs", Reply(200, [job], {"X-Total-Count": "1"}))
    airflow.on("GET /jobs/prices", Reply(200, job))
    airflow.on("GET /jobs/broken", refusal(422, EVIL, (EVIL, EVIL), ("", EVIL)))
    airflow.on("POST /jobs/prices/pause", Reply(200, {"message": EVIL}))
    airflow.on("POST /jobs/prices/trigger", Reply(200, {"message": EVIL, "jobRunId": "manual__1"}))
    airflow.on("GET /jobs/prices/runs", Reply(200, {"jobRuns": [run], "totalCount": 1}))
    airflow.on(f"GET {RUN}", Reply(200, {"jobRun": run, "results": None}))
    airflow.on(f"GET {RUN}/payloads", Reply(200, {"payloads": items, "totalCount": 2}))
    airflow.on(f"POST {RUN}/terminate", Reply(200, {"message": EVIL}))
    airflow.on(RESULTS, Reply(200, f"{EVIL}\n".encode() + b"\xff\xc3", JSONL_TYPE))


COMMANDS = [
    ("list",),
    ("show", "prices"),
    ("show", "prices", "--definition"),
    ("show", "broken"),
    ("pause", "prices"),
    ("trigger", "prices"),
    ("trigger", "prices", "--watch"),
    ("watch", "prices", "manual__1"),
    ("runs", "prices"),
    ("items", "prices", "manual__1"),
    ("terminate", "prices", "manual__1"),
]


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", [(), ("--json",)], ids=["people", "json"])
def test_control_characters_of_the_api_are_escaped(
    airflow: FakeAirflow, cli: Cli, words: tuple[str, ...], option: tuple[str, ...]
) -> None:
    evil_airflow(airflow)
    cli(*words, *option)
    assert "2J" in cli.out + cli.err
    assert harmless(cli.out)
    assert harmless(cli.err)


@pytest.mark.parametrize("words", [("results", "prices", "manual__1"), ("results", "prices", "manual__1", "--json")])
def test_control_characters_of_results_never_reach_a_terminal(airflow: FakeAirflow, words: tuple[str, ...]) -> None:
    evil_airflow(airflow)
    status, text = on_terminal(*words, columns=300)
    assert status == 0
    assert text == "a\\x1b[2J\\x07\\x9b2J\\u202e\\x7f\\x1b]0;owned\\x07\r\nb\\u2028c\r\n\ufffd\ufffd"


def test_control_characters_never_reach_the_terminal_of_a_watch(airflow: FakeAirflow) -> None:
    evil_airflow(airflow)
    status, text = on_terminal("trigger", "prices", "--watch", columns=300)
    assert status == 1
    drawn = text.replace("\x1b[K", "").replace("\r", "")
    assert harmless(drawn)
    assert "\\x1b[2J" in drawn


def test_csv_on_a_terminal_has_lines(airflow: FakeAirflow) -> None:
    airflow.on(RESULTS, Reply(200, CSV, CSV_TYPE))
    status, text = on_terminal("results", "prices", "manual__1", "--format", "csv")
    assert (status, text) == (0, 'index,api\r\n0,"two\r\nlines"\r\n')


def test_json_of_the_api_is_the_same_value_when_it_is_read_again(airflow: FakeAirflow, cli: Cli) -> None:
    strange = job_of(description=f'{EVIL}\ud800 ü 価格 \U0001f600 \\ " \x00', payload=[{"apiName": "x" * 5000}])
    airflow.on("GET /jobs/prices", Reply(200, strange))
    airflow.on("GET /jobs", Reply(200, [strange]))
    assert cli("show", "prices", "--json") == 0
    assert json.loads(cli.out) == strange
    assert "ü 価格 \U0001f600" in cli.out
    assert cli("list", "--json") == 0
    assert json.loads(cli.out) == [strange]


@pytest.mark.parametrize(("words", "said"), [(("list",), b"\\xfc"), (("list", "--json"), b"\\u00fc")])
def test_what_a_terminal_has_no_sign_for_is_escaped(airflow: FakeAirflow, words: tuple[str, ...], said: bytes) -> None:
    job = job_of(description="ü")
    airflow.on("GET /jobs", Reply(200, [job]))
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command(*words), capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert said in done.stdout
    if "--json" in words:
        assert json.loads(done.stdout) == [job]


# -- tables and texts -----------------------------------------------------------------------------------------------


def test_no_line_of_a_table_is_longer_than_the_terminal(airflow: FakeAirflow) -> None:
    airflow.on("GET /jobs", Reply(200, [job_of("価格" * 30), job_of("x" * 200, description="y" * 300)]))
    for columns in (40, 100):
        status, text = on_terminal("list", columns=columns)
        assert status == 0
        lines = text.split("\r\n")[:-1]
        assert len(lines) == 3
        assert len(lines[2]) == columns
        assert lines[1].endswith("…")
        assert lines[2].endswith("…")
    status, text = on_terminal("list", columns=0)
    assert status == 0, "a terminal of which nobody knows how wide it is"
    assert f"{'y' * 300}\r\n" in text


def test_columns_of_wide_signs_stand_below_each_other() -> None:
    assert table(("A", "N>"), [("価格", "1"), ("e\u0301x", "10")], None) == ["A      N", "価格   1", "e\u0301x    10"]


@pytest.mark.parametrize("width", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("line", ["", "abc", "価格価格", "e\u0301" * 9, "x" * 999])
def test_a_line_is_cut_to_what_fits(line: str, width: int) -> None:
    def columns(text: str) -> int:
        return sum({"価": 2, "格": 2, "\u0301": 0}.get(c, 1) for c in text)

    found = cut(line, width)
    assert columns(found) <= width
    assert found == line or (columns(line) > width and found.endswith("…"))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0.0s"), (0, "0.0s"), (4.24, "4.2s"), (59.9, "59.9s"), (59.96, "1m00s"), (60, "1m00s"), (125, "2m05s"),
     (3599.4, "59m59s"), (3599.6, "1h00m"), (3720, "1h02m"), (100 * 3600, "100h00m")],
)  # fmt: skip
def test_how_long_it_took(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [({"a": "ü"}, '{"a": "ü"}'), ("x\ny", "x y"), (None, "null"), ("x" * 61, "x" * 59 + "…"), ("x" * 60, "x" * 60)],
)
def test_a_value_is_short(value: Any, said: str) -> None:
    assert short(value) == said


def test_texts_are_one_printable_line() -> None:
    assert safe(EVIL) == "a\\x1b[2J\\x07\\x9b2J\\u202e\\x7f\\x1b]0;owned\\x07 b c"
    assert harmless(json_text({EVIL: EVIL}))
    assert json_text({"n": 1}, indent=None) == '{"n": 1}'
    assert json.loads(json_text({EVIL: [EVIL]}, ascii_only=True)) == {EVIL: [EVIL]}
