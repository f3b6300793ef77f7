"""A run is watched until it ends, through whatever happens to the connection, without a moment's real waiting."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from airflow_jobs_plugin.demo.server import Received, Reply
from airflow_jobs_plugin.errors import RemoteError
from airflow_jobs_plugin.remote import run_commands
from airflow_jobs_plugin.remote.watching import GIVE_UP, Progress, until_ended

from ...terminal import on_terminal
from .conftest import Cli, Clock, FakeAirflow, refusal, run_of

RUN = "/jobs/prices/runs/manual__1"
TRIGGERED = Reply(200, {"jobRunId": "manual__1", "message": "Triggered"})
SUMMARY = "manual__1: SUCCESS after 1m04s, 4 items: 4 succeeded\n"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of the commands that watch."""
    clock = Clock()
    monkeypatch.setattr(run_commands, "until_ended", partial(until_ended, clock=clock, sleep=clock.sleep))
    monkeypatch.setattr(run_commands, "Progress", partial(Progress, clock=clock))
    return clock


def seen(status: str, **counts: int) -> Reply:
    return Reply(200, {"jobRun": run_of(status, **counts), "results": None})


def looks(*outcomes: dict[str, Any] | RemoteError) -> Callable[[], dict[str, Any]]:
    left = list(outcomes)

    def look() -> dict[str, Any]:
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, RemoteError):
            raise outcome
        return outcome

    return look


# -- the command ----------------------------------------------------------------------------------------------------


def test_watch_tells_what_happens_and_how_it_ended(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    airflow.on(
        f"GET {RUN}",
        seen("PENDING"),
        seen("PENDING", pending=2, running=2),
        seen("PENDING", running=1, retrying=1, succeeded=2),
        seen("SUCCESS", succeeded=4),
    )
    assert cli("watch", "prices", "manual__1") == 0
    assert cli.out == SUMMARY
    assert cli.err.splitlines() == [
        "0/? ended: planning",
        "4/4 ended: 4 succeeded, 1.3/s",
    ]
    assert clock.slept == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("status", "expected"), [("SUCCESS", 0), ("COMPLETED", 0), ("FAILURE", 1), ("TERMINATED", 1), ("CANCELED", 1)]
)
def test_the_exit_status_says_whether_the_run_was_good(
    airflow: FakeAirflow, cli: Cli, clock: Clock, status: str, expected: int
) -> None:
    airflow.on("POST /jobs/prices/trigger", TRIGGERED)
    airflow.on(f"GET {RUN}", seen("PENDING", pending=1), seen(status, succeeded=1))
    for words in (("watch", "prices", "manual__1"), ("trigger", "prices", "--watch")):
        for options in ((), ("--json",)):
            assert cli(*words, *options) == expected
            if options:
                assert json.loads(cli.out) == {"jobRun": run_of(status, succeeded=1), "results": None}
            else:
                assert cli.out.startswith(f"manual__1: {status} after 1m04s, 1 items: 1 succeeded")


def test_trigger_and_watch_says_the_run_first_and_leaves_standard_output_to_the_outcome(
    airflow: FakeAirflow, cli: Cli, clock: Clock
) -> None:
    airflow.on("POST /jobs/prices/trigger", TRIGGERED)
    airflow.on(f"GET {RUN}", seen("SUCCESS", succeeded=4))
    assert cli("trigger", "prices", "--watch") == 0
    assert cli.out == SUMMARY
    assert cli.err == "Triggered: manual__1\n4/4 ended: 4 succeeded\n"


def test_watch_says_why_a_run_ended_badly_and_what_to_look_at(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    ended = {
        **run_of("FAILURE", succeeded=1, failed=2, canceled=1),
        "id": "by hand's",
        "error": {"message": "the results were not delivered: 503"},
        "reason": {"message": "terminated by anna"},
        "delivery": {"status": "failed"},
    }
    airflow.on("GET /jobs/prices/runs", Reply(200, {"jobRuns": [ended], "totalCount": 1}))
    airflow.on("GET /jobs/prices/runs/by%20hand%27s", Reply(200, {"jobRun": ended, "results": None}))
    assert cli("watch", "prices", "latest") == 1
    assert cli.out.splitlines() == [
        "by hand's: FAILURE after 1m04s, 4 items: 1 succeeded, 2 failed, 1 canceled",
        "terminated by anna",
        "the results were not delivered: 503",
        "What failed: airflow-jobs items prices 'by hand'\"'\"'s' --status FAILED",
    ]


def test_watch_says_where_the_results_went(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    ended = {**run_of("SUCCESS", succeeded=4), "delivery": {"status": "delivered", "to": "https://example.com/x"}}
    airflow.on(f"GET {RUN}", Reply(200, {"jobRun": ended, "results": None}))
    assert cli("watch", "prices", "manual__1") == 0
    assert cli.out == f"{SUMMARY}Delivered to https://example.com/x\n"


def test_a_run_that_never_had_a_list(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    airflow.on(f"GET {RUN}", Reply(200, {"jobRun": {**run_of("FAILURE"), "error": {"message": "the plan failed"}}}))
    assert cli("watch", "prices", "manual__1") == 1
    assert cli.out == "manual__1: FAILURE after 1m04s, no items\nthe plan failed\n"


# -- a server that starts again -------------------------------------------------------------------------------------


def test_a_server_that_starts_again_is_waited_for(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    port = airflow.port
    last = seen("PENDING", running=4)
    airflow.on(f"GET {RUN}", Reply(200, last.body, {"Connection": "close"}), seen("SUCCESS", succeeded=4))
    clock.then = [airflow.stop, lambda: None, lambda: None, lambda: airflow.start(port)]
    assert cli("watch", "prices", "manual__1") == 0
    assert cli.out == SUMMARY
    first, trouble, end = cli.err.splitlines()
    assert first == "0/4 ended: 4 running"
    assert trouble.startswith(f"cannot reach http://127.0.0.1:{port}: ")
    assert trouble.endswith("; trying again")
    assert end.startswith("4/4 ended: 4 succeeded")
    assert clock.slept == [1.0, 1.0, 2.0, 4.0], "it waits longer each time, as others do then, too"


@pytest.mark.parametrize("trouble", [Reply(502), Reply(503, {"detail": "starting"}), refusal(500, "oh")], ids=str)
def test_an_answer_that_may_pass_is_waited_out(airflow: FakeAirflow, cli: Cli, clock: Clock, trouble: Reply) -> None:
    pending = seen("PENDING", running=4)
    airflow.on(f"GET {RUN}", pending, trouble, trouble, pending, trouble, seen("SUCCESS", succeeded=4))
    assert cli("watch", "prices", "manual__1", "--json") == 0
    assert json.loads(cli.out)["jobRun"]["status"] == "SUCCESS"
    lines = cli.err.splitlines()
    assert len([line for line in lines if line.endswith("; trying again")]) == 2, "once for each time, not each look"
    assert lines[2] == "0/4 ended: 4 running, 0.0/s"


def test_a_server_that_cannot_answer_the_first_look_is_not_waited_for(
    airflow: FakeAirflow, cli: Cli, clock: Clock
) -> None:
    airflow.on(f"GET {RUN}", Reply(502))
    assert cli("watch", "prices", "manual__1") == 1
    assert cli.err == f"{airflow.url} cannot answer at this moment (status 502)\n"
    assert clock.slept == []


def test_a_server_that_starts_again_right_after_a_trigger_is_waited_for(
    airflow: FakeAirflow, cli: Cli, clock: Clock
) -> None:
    airflow.on("POST /jobs/prices/trigger", TRIGGERED)
    airflow.on(f"GET {RUN}", Reply(502), Reply(502), seen("SUCCESS", succeeded=4))
    assert cli("trigger", "prices", "--watch") == 0
    assert cli.out == SUMMARY
    assert len(airflow.asked("POST")) == 1, "the run is not started twice"
    assert clock.slept == [1.0, 2.0]


def test_a_run_that_is_gone_ends_the_watch(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    airflow.on(f"GET {RUN}", seen("PENDING", running=1), refusal(404, "there is no job 'prices'"))
    assert cli("watch", "prices", "manual__1") == 1
    assert (cli.out, cli.err) == ("", "0/1 ended: 1 running\nthere is no job 'prices'\n")


def test_a_server_that_moves_away_is_not_waited_for(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    airflow.on(f"GET {RUN}", seen("PENDING", running=1), Reply(302, None, {"Location": "https://elsewhere/"}))
    assert cli("watch", "prices", "manual__1") == 1
    assert cli.err.endswith("leads elsewhere, to https://elsewhere/; give that URL\n")
    assert clock.slept == [1.0]


def test_a_token_that_expires_meanwhile_does_not_end_the_watch(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    airflow.on("GET /auth/token", *(Reply(201, {"access_token": f"token-{n}"}) for n in (1, 2)))
    looked: list[str] = []

    def look(request: Received) -> Reply:
        looked.append(request.headers["authorization"].removeprefix("Bearer "))
        if looked[-1] == "token-1" and len(looked) > 2:
            return refusal(401, "Token Expired")
        return seen("SUCCESS" if len(looked) > 4 else "PENDING", succeeded=4)

    airflow.on(f"GET {RUN}", look)
    assert cli("watch", "prices", "manual__1") == 0
    assert looked == ["token-1"] * 3 + ["token-2"] * 2
    assert "expire" not in cli.err.lower()


def test_a_given_token_that_expires_meanwhile_ends_the_watch_with_the_reason(
    airflow: FakeAirflow, cli: Cli, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_JOBS_TOKEN", "mine")
    airflow.on(f"GET {RUN}", seen("PENDING", running=4), refusal(401, "Token Expired"))
    assert cli("watch", "prices", "manual__1") == 1
    assert "does not accept the token (Token Expired); give a token" in cli.err


def test_a_server_that_starts_again_when_the_token_has_to_be_renewed(
    airflow: FakeAirflow, cli: Cli, clock: Clock
) -> None:
    airflow.on("GET /auth/token", Reply(201, {"access_token": "1"}), Reply(503), Reply(201, {"access_token": "2"}))
    airflow.on(
        f"GET {RUN}", seen("PENDING", running=4), refusal(401, "Invalid JWT token"), seen("SUCCESS", succeeded=4)
    )
    assert cli("watch", "prices", "manual__1") == 0
    assert f"{airflow.url} cannot answer at this moment (status 503); trying again\n" in cli.err
    assert cli.out == SUMMARY


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """What is started in the background of a shell ignores SIGINT, and its tests with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    """Ctrl-C: the signal itself, to the thread that gets it."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


@pytest.mark.parametrize("words", [("watch", "prices", "manual__1"), ("trigger", "prices", "--watch")])
def test_ctrl_c_stops_watching_and_not_the_run(
    airflow: FakeAirflow, cli: Cli, clock: Clock, words: tuple[str, ...]
) -> None:
    airflow.on("POST /jobs/prices/trigger", TRIGGERED)
    airflow.on(f"GET {RUN}", seen("PENDING", running=1))
    clock.then = [interrupt]
    assert cli(*words) == 130
    assert cli.out == ""
    assert cli.err.splitlines()[-1] == (
        "Stopped watching; the run goes on. Watch it again: airflow-jobs watch prices manual__1. "
        "End it: airflow-jobs terminate prices manual__1"
    )
    assert [r for r in airflow.asked("POST") if not r.path.endswith("/trigger")] == []

    clock.then = [interrupt]
    assert cli(*words, "--json") == 130
    assert json.loads(cli.out)["jobRun"]["status"] == "PENDING", "what was seen last"


def test_ctrl_c_while_the_server_does_not_answer(airflow: FakeAirflow, cli: Cli, clock: Clock) -> None:
    over = threading.Event()

    def hang(request: Received) -> Reply:
        interrupt()
        over.wait(60)
        return seen("PENDING", running=1)

    airflow.on(f"GET {RUN}", hang)
    try:
        assert cli("watch", "prices", "manual__1", "--json") == 130
    finally:
        over.set()
    assert cli.out == ""
    assert cli.err.startswith("Stopped watching; the run goes on.")


# -- waiting --------------------------------------------------------------------------------------------------------


def progress(clock: Clock, *, live: bool = False) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    return Progress(stream, live=live, clock=clock), stream


@pytest.mark.parametrize("reached", [False, True])
def test_it_gives_up_after_a_quarter_of_an_hour_without_any_answer(reached: bool) -> None:
    clock = Clock()
    shown, stream = progress(clock)
    gone = RemoteError("cannot reach it")
    outcomes = [gone] if reached else [run_of("PENDING", running=1), gone]
    with pytest.raises(RemoteError, match="cannot reach it"):
        until_ended(looks(*outcomes), shown, reached=reached, clock=clock, sleep=clock.sleep)
    assert GIVE_UP <= clock.now - 1000 <= GIVE_UP + 15
    assert max(clock.slept) == 10
    assert stream.getvalue().count("trying again") == 1


def test_an_answer_in_between_starts_the_quarter_of_an_hour_anew() -> None:
    clock = Clock()
    shown, _ = progress(clock)
    looked = 0

    def look() -> dict[str, Any]:
        nonlocal looked
        looked += 1
        if looked > 400:
            return run_of("SUCCESS", succeeded=1)
        if looked % 50:
            raise RemoteError("no answer", 503)
        return run_of("PENDING", running=1)

    ended = until_ended(look, shown, reached=True, clock=clock, sleep=clock.sleep)
    assert ended["status"] == "SUCCESS"
    assert clock.now - 1000 > 3 * GIVE_UP


# -- plain lines ----------------------------------------------------------------------------------------------------


def shown(runs: Iterable[dict[str, Any] | str], *, live: bool = False, every: float = 1.0) -> str:
    """What is written of runs, or of troubles, that are seen one after the other."""
    clock = Clock()
    lines, stream = progress(clock, live=live)
    for run in runs:
        if isinstance(run, str):
            lines.trouble(run)
        else:
            lines.show(run)
        clock.now += every
    return stream.getvalue()


def test_lines_are_not_one_for_each_look() -> None:
    text = shown(run_of("PENDING", running=100 - n, succeeded=n) for n in range(100))
    assert len(text.splitlines()) == 20
    assert text.splitlines()[:2] == [
        "0/100 ended: 100 running",
        "5/100 ended: 95 running, 5 succeeded, 1.0/s",
    ]


def test_where_nothing_changes_nothing_is_said() -> None:
    assert shown([run_of("PENDING", running=1)] * 1000) == "0/1 ended: 1 running\n"


def test_a_change_of_status_and_the_end_are_told_at_once() -> None:
    text = shown(
        [
            run_of("PENDING", pending=1, running=1),
            run_of("PAUSING", pending=1, running=1),
            run_of("PAUSED", pending=1, succeeded=1),
            run_of("PENDING", running=1, succeeded=1),
            run_of("COMPLETED", failed=1, succeeded=1),
        ],
        every=0.1,
    )
    assert text.splitlines() == [
        "0/2 ended: 1 pending, 1 running",
        "0/2 ended: pausing: 1 pending, 1 running",
        "1/2 ended: paused: 1 pending, 1 succeeded",
        "1/2 ended: 1 running, 1 succeeded",
        "2/2 ended: 1 succeeded, 1 failed",
    ]


def test_the_rate_is_that_of_the_last_seconds() -> None:
    slow = [run_of("PENDING", running=1000 - n, succeeded=n) for n in range(60)]
    fast = [run_of("PENDING", running=900 - 20 * n, succeeded=100 + 20 * n) for n in range(30)]
    assert shown([*slow, *fast]).splitlines()[-1].endswith("succeeded, 20.0/s")


def test_a_run_that_grows_has_a_rate_and_one_that_loses_items_has_none() -> None:
    grown = shown([run_of("PENDING", running=2), run_of("PENDING", running=10, succeeded=2)], every=6)
    assert grown.endswith("2/12 ended: 10 running, 2 succeeded, 0.3/s\n")
    cleared = shown([run_of("PENDING", running=1, failed=2), run_of("PENDING", running=3)], every=6)
    assert cleared.endswith("0/3 ended: 3 running\n")


def test_trouble_is_told_once_and_its_end_too() -> None:
    run = run_of("PENDING", running=1)
    text = shown([run, "no \x1b[2Janswer", "no answer", "no answer", run, run])
    assert text.splitlines() == [
        "0/1 ended: 1 running",
        "no \\x1b[2Janswer; trying again",
        "0/1 ended: 1 running, 0.0/s",
    ]


# -- the bar --------------------------------------------------------------------------------------------------------


def test_the_bar_is_drawn_over_and_over() -> None:
    text = shown(
        [
            run_of("PENDING"),
            run_of("PENDING", running=3, succeeded=1),
            "no answer",
            run_of("SUCCESS", succeeded=3, failed=1),
        ],
        live=True,
    )
    assert "\n" not in text
    start, *drawn = text.split("\r")
    assert start == ""
    assert [frame.removesuffix("\x1b[K") for frame in drawn] == [
        f"[{'-' * 24}] ?  0.0s  planning",
        f"[{'#' * 6}{'-' * 18}] 1/4  1.0/s  1.0s  3 running, 1 succeeded",
        "no answer; trying again",
        f"[{'#' * 24}] 4/4  1.3/s  3.0s  3 succeeded, 1 failed",
    ]
    assert all(frame.endswith("\x1b[K") for frame in drawn), "nothing of a longer line before stays"


def test_the_bar_fits_a_terminal_and_is_gone_at_the_end(airflow: FakeAirflow) -> None:
    airflow.on(f"GET {RUN}", seen("FAILURE", succeeded=123456, failed=123456, canceled=123456))
    for columns, most in ((20, 19), (60, 59), (200, 199), (0, 79)):
        status, text = on_terminal("watch", "prices", "manual__1", columns=columns)
        assert status == 1
        bar, _, rest = text.removeprefix("\r").partition("\x1b[K")
        assert bar.startswith("[########")
        assert 10 < len(bar) <= most
        assert rest.startswith("\r\x1b[K")
        assert rest.removeprefix("\r\x1b[K").startswith("manual__1: FAILURE after 1m04s, 370368 items: ")


def test_a_dumb_terminal_gets_plain_lines(airflow: FakeAirflow) -> None:
    airflow.on(f"GET {RUN}", seen("SUCCESS", succeeded=4))
    status, text = on_terminal("watch", "prices", "manual__1", term="dumb")
    assert status == 0
    assert text.replace("\r\n", "\n") == f"4/4 ended: 4 succeeded\n{SUMMARY}"
