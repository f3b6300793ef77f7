"""The commands over REST as a user runs them, against a real Airflow."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.stack import AirflowStack

from ..terminal import command, on_terminal
from .conftest import Api, Jobs
from .ways import either_way, in_use

pytestmark = pytest.mark.e2e

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#: The console script that an installation puts beside the Python.
SCRIPT = Path(sys.executable).with_name("airflow-jobs")

DEFINITION = """\
# a comment, as people write them
payload:
  - api: echo
    parameters: {n: 0, text: "=ü"}
  - {api: echo, parameters: {n: 1}}
  - {api: fail, parameters: {status: 404}}
configuration:
  retry: {maximumAttempts: 1}
  toleratedFailurePercentage: 34
  itemsPerTask: SHARE
schedule:
  calendars: [{hour: 2}]
  timezone: Europe/Berlin
sink: {type: webhook, url: RECEIVER, secret: SECRET}
"""


class Shell:
    """Runs command lines as processes, in a folder and an environment without anything of Airflow but its URL."""

    def __init__(self, airflow: AirflowStack, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        self.environment["AIRFLOW_JOBS_URL"] = airflow.base_url

    def run(self, *arguments: Any, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        return self._run(command(*arguments), stdin)

    def script(self, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """Run one by way of the console script."""
        return self._run([str(SCRIPT), *map(str, arguments)], None)

    def _run(self, words: list[str], stdin: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, input=stdin or "", capture_output=True, text=True, timeout=120, cwd=self.folder, env=self.environment
        )

    def good(self, *arguments: Any, stdin: str | None = None) -> str:
        """Standard output of one that has to succeed."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: Any) -> str:
        """Standard error of one that has to fail, without any output."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        return done.stderr

    def json(self, *arguments: Any, stdin: str | None = None, status: int = 0) -> Any:
        """What one prints with ``--json``."""
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == status, done
        return json.loads(done.stdout)


@pytest.fixture
def shell(airflow: AirflowStack, tmp_path: Path) -> Shell:
    return Shell(airflow, tmp_path)


def test_the_life_of_a_job_on_the_command_line(
    items_per_task: int, shell: Shell, jobs: Jobs, receiver: WebhookReceiver
) -> None:
    text = DEFINITION.replace("RECEIVER", f"{receiver.url}/cli").replace("SECRET", SECRET)
    text = text.replace("SHARE", str(items_per_task))
    file = shell.folder / "cli-life.job.yaml"

    # What is wrong is found here, or there, with its place; what is right is kept.
    file.write_text(text.replace("hour: 2", "hour: 24"))
    assert shell.refused("create", file.name).startswith("cli-life.job.yaml:12:")
    # Only the server knows how long a list may be there.
    file.write_text("payload:\n" + "  - {api: echo}\n" * 41)
    assert shell.refused("create", file.name).startswith("cli-life.job.yaml:1:1: payload: 41 items are more than")
    file.write_text(text)
    created = shell.script("create", file.name)
    assert (created.returncode, created.stdout, created.stderr) == (0, "Created cli-life.\n", "")
    head, row = shell.good("list", "--search", "cli-life").splitlines()
    assert row.split()[:4] == ["cli-life", "ACTIVE", "API", "3"]
    assert head.split()[:4] == ["JOB", "STATE", "SOURCE", "ITEMS"]
    assert row.endswith("at 02:00, Europe/Berlin")

    # A run with as many failures as are tolerated is good.
    done = shell.run("trigger", "cli-life", "--watch", "--note", "by hand")
    assert done.returncode == 0, done
    assert done.stderr.startswith("Triggered: manual__")
    assert "3/3 ended: 2 succeeded, 1 failed" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert "\r" not in done.stderr
    summary, delivered, hint = done.stdout.splitlines()
    assert ": COMPLETED after " in summary
    assert summary.endswith("3 items: 2 succeeded, 1 failed")
    assert delivered.startswith("Delivered to ")
    first = summary.partition(": ")[0]
    assert hint == f"What failed: airflow-jobs items cli-life {first} --status FAILED"

    # The definition comes back as a file. Its secret stays there, and stays what it is.
    shown = shell.good("show", "cli-life")
    etag = next(line for line in shown.splitlines() if line.startswith("etag: ")).removeprefix("etag: ")
    definition = json.loads(shell.good("show", "cli-life", "--definition"))
    assert SECRET not in json.dumps(definition)
    assert definition["sink"]["secret"] == "***"
    definition["configuration"]["toleratedFailurePercentage"] = 0
    (shell.folder / "edited.json").write_text(json.dumps(definition))
    assert shell.good("update", "edited.json", "--if-match", etag).startswith("Updated cli-life; ")
    assert "no longer what If-Match names" in shell.refused("update", "edited.json", "--if-match", etag)

    # Now the same run is a failure, but for the delivery.
    done = shell.run("trigger", "cli-life", "--watch")
    assert done.returncode == 1, done
    second = done.stdout.partition(": ")[0]
    assert done.stdout.startswith(f"{second}: FAILURE after ")
    deliveries = jobs.delivered("cli-life")
    assert len(deliveries) == 2
    for delivery in deliveries:
        assert Webhook(SECRET).verify(delivery.raw.decode(), dict(delivery.headers)) == delivery.body

    _, newest, oldest = shell.good("runs", "cli-life").splitlines()
    assert newest.split()[:3] == [second, "FAILURE", "MANUAL"]
    assert oldest.split()[:3] == [first, "COMPLETED", "MANUAL"]
    assert oldest.endswith("by hand")
    one = shell.run("runs", "cli-life", "--limit", "1")
    assert (len(one.stdout.splitlines()), one.stderr) == (2, "1 of 2 runs\n")
    _, failed = shell.good("items", "cli-life", "latest", "--status", "failed").splitlines()
    assert failed.split()[:2] == ["2", "fail"]
    assert " FAILED " in failed
    assert "404" in failed

    written = shell.run("results", "cli-life", "latest", "--output", "results.jsonl")
    lines = (shell.folder / "results.jsonl").read_text()
    assert (written.returncode, written.stdout) == (0, "")
    assert written.stderr == f"{len(lines.encode())} bytes written to results.jsonl\n"
    assert shell.good("results", "cli-life", second) == lines
    bodies = [json.loads(line)["apiInfo"] for line in lines.splitlines()]
    assert [body["result"]["status"] for body in bodies] == ["completed"] * 2 + ["failed"]
    assert bodies[0]["parameters"] == {"n": 0, "text": "=ü"}
    assert shell.run("results", "cli-life", first, "--format", "csv", "--output", "results.csv").returncode == 0
    with (shell.folder / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["api"], row["status"]) for row in rows] == [("echo", "completed")] * 2 + [("fail", "failed")]
    assert rows == list(csv.DictReader(io.StringIO(shell.good("results", "cli-life", first, "--format", "csv"))))

    # Paused, it starts nothing and says why.
    assert shell.good("pause", "cli-life") == "cli-life: Paused\n"
    assert shell.good("list", "--search", "cli-life", "--state", "paused").split().count("PAUSED") == 1
    reason = "the job 'cli-life' is paused; resume it first\n"
    assert shell.refused("trigger", "cli-life", "--watch") == reason
    assert shell.good("resume", "cli-life") == "cli-life: Resumed\n"

    assert shell.good("delete", "cli-life") == "Deleted cli-life and the history of its 2 runs.\n"
    assert shell.refused("show", "cli-life") == "there is no job 'cli-life'\n"
    assert shell.run("list", "--search", "cli-life").stderr == "No jobs.\n"


@either_way
def test_the_life_of_a_job_for_programs(shell: Shell, airflow: AirflowStack) -> None:
    work = {"id": "cli-json", "payload": [{"api": "acme_jobs:add", "parameters": {"a": 1, "b": 2}}]}
    definition = json.dumps(in_use({**work, "target": {"type": "python"}}))
    assert shell.json("create", "-", stdin=definition) == {"id": "cli-json", "message": "created", "ready": True}
    assert [job["id"] for job in shell.json("list", "--search", "cli-json")] == ["cli-json"]
    shown = shell.json("show", "cli-json")
    assert (shown["state"], shown["ready"], shown["target"]["type"]) == ("ACTIVE", True, "python")
    again = json.dumps(shell.json("show", "cli-json", "--definition"))
    assert shell.json("update", "-", stdin=again)["message"] == "updated job successfully"

    items = "- {api: 'acme_jobs:add', parameters: {a: 40, b: 1}}\n- api: 'acme_jobs:secret_agent'\n"
    key = ("trigger", "cli-json", "--payload", "-", "--idempotency-key", "order-17")
    ended = shell.json(*key, "--watch", stdin=items, status=1)["jobRun"]
    assert (ended["status"], ended["counts"]["succeeded"], ended["counts"]["failed"]) == ("FAILURE", 1, 1)
    repeated = shell.json(*key, stdin=items)
    assert repeated == {"jobRunId": ended["id"], "message": "Triggered before with this Idempotency-Key"}

    assert shell.json("watch", "cli-json", "latest", status=1)["jobRun"] == ended
    runs = shell.json("runs", "cli-json")
    assert (runs["totalCount"], runs["jobRuns"][0]["id"]) == (1, ended["id"])
    found = shell.json("items", "cli-json", "latest")
    assert [item["status"] for item in found["payloads"]] == ["SUCCEEDED", "FAILED"]
    assert (found["totalCount"], found["payloads"][0]["result"]) == (2, {"sum": 41})
    lines = shell.good("results", "cli-json", "latest", "--json").splitlines()
    assert [json.loads(line)["apiInfo"]["result"]["status"] for line in lines] == ["completed", "failed"]
    written = shell.json("results", "cli-json", "latest", "--output", "x.csv", "--format", "csv")
    size = (shell.folder / "x.csv").stat().st_size
    assert written == {"output": "x.csv", "format": "csv", "bytes": size}

    assert shell.json("pause", "cli-json") == {"id": "cli-json", "message": "Paused"}
    assert shell.refused("trigger", "cli-json", "--json") == "the job 'cli-json' is paused; resume it first\n"
    assert shell.json("resume", "cli-json") == {"id": "cli-json", "message": "Resumed"}
    over = {"message": "The run had ended already; nothing was changed"}
    assert shell.json("terminate", "cli-json", "latest") == over
    assert shell.json("delete", "cli-json") == {"id": "cli-json", "message": "deleted", "deletedRuns": 1}


@either_way
def test_a_run_is_terminated_in_the_middle_of_a_call(shell: Shell, airflow: AirflowStack, api: Api) -> None:
    items = [{"api": "slow", "parameters": {"seconds": 8}}, {"api": "echo"}]
    slow = {"id": "cli-slow", "payload": items, "configuration": {"maxConcurrentRequests": 1}}
    shell.good("create", "-", stdin=json.dumps(in_use(slow)))
    run_id = shell.good("trigger", "cli-slow").strip().removeprefix("Triggered: ")
    airflow.client.wait_until("a call", lambda: api.calls("cli-slow"), 60)
    assert "1 runs of 'cli-slow' have not ended" in shell.refused("delete", "cli-slow")
    assert shell.good("terminate", "cli-slow", "latest", "--reason", "wrong list") == f"{run_id}: Terminated\n"
    done = shell.run("watch", "cli-slow", run_id)
    assert done.returncode == 1
    summary, reason = done.stdout.splitlines()
    assert summary.startswith(f"{run_id}: TERMINATED after ")
    assert summary.endswith("2 items: 2 canceled")
    assert reason.startswith("terminated by ")
    assert reason.endswith(": wrong list")
    assert shell.good("terminate", "cli-slow", run_id).endswith(": The run had ended already; nothing was changed\n")
    assert shell.good("delete", "cli-slow", "--force") == "Deleted cli-slow and the history of its 1 run.\n"
    assert len(api.calls("cli-slow")) == 1


@either_way
def test_on_a_terminal_a_bar_grows_and_goes(shell: Shell) -> None:
    items = [{"api": "slow", "parameters": {"seconds": 1.5, "n": n}} for n in range(3)]
    job = {"id": "cli-bar", "payload": items, "configuration": {"maxConcurrentRequests": 1}}
    shell.good("create", "-", stdin=json.dumps(in_use(job)))
    status, text = on_terminal("trigger", "cli-bar", "--watch", columns=100, environment=shell.environment)
    assert status == 0, text
    frames = [part.removesuffix("\x1b[K") for part in text.split("\r") if part.endswith("\x1b[K")]
    bars = [frame for frame in frames if frame.startswith("[")]
    filled = [bar.count("#") for bar in bars]
    assert filled == sorted(filled)
    assert len(set(filled)) >= 3, "it was seen to grow"
    assert filled[-1] == 24
    assert bars[-1].startswith(f"[{'#' * 24}] 3/3  ")
    assert max(map(len, bars)) < 100
    # The bar is taken away before the outcome is told.
    _, _, outcome = text.rpartition("\r\x1b[K")
    assert outcome.startswith("manual__")
    assert ": SUCCESS after " in outcome
    shell.good("delete", "cli-bar")


def test_a_token_is_let_in_and_what_is_none_is_not(shell: Shell, airflow: AirflowStack) -> None:
    (shell.folder / "token").write_text(f"{airflow.token()}\n")
    assert isinstance(shell.json("list", "--token-file", "token"), list)
    (shell.folder / "token").write_text("eyJ.not.true\n")
    assert "does not accept the token" in shell.refused("list", "--token-file", "token")
