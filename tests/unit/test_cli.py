from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from airflow_jobs_plugin.cli import main

GOOD = "payload:\n  - api: x\n"


def test_lint_says_file_line_column_and_fault_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.job.yaml").write_text(GOOD)
    (tmp_path / "bad.job.yaml").write_text("payload:\n  - api: x\n    paramters: {}\n  - {}\n")
    assert main(["lint", str(tmp_path)]) == 1
    out = capsys.readouterr()
    bad = tmp_path / "bad.job.yaml"
    assert out.out.splitlines() == [
        f"{bad}:3:5: payload[0].paramters: unknown field 'paramters'; did you mean 'parameters'?",
        f"{bad}:4:5: payload[1].api: is missing; it is required",
    ]
    assert out.err == "2 faults, 1 job without fault\n"


def test_lint_passes_what_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.job.yaml").write_text(GOOD)
    assert main(["lint", str(tmp_path), str(tmp_path / "good.job.yaml")]) == 0
    assert capsys.readouterr().out == ""


def test_lint_tells_what_would_only_fail_in_airflow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "3")
    jobs = tmp_path / "dags" / "jobs"
    jobs.mkdir(parents=True)
    (tmp_path / "dags" / "jobs.py").write_text("from airflow_jobs_plugin.factory import load_jobs\nload_jobs()\n")
    (tmp_path / "dags" / "etl.py").write_text(
        'from airflow.sdk import DAG, dag\nDAG("etl")\n@dag\ndef nightly(): ...\n'
    )
    (jobs / "etl.job.yaml").write_text(GOOD)
    (jobs / "nightly.job.yaml").write_text(GOOD)
    (jobs / "long.job.json").write_text(json.dumps({"payload": [{"api": "x"}] * 4}))
    assert main(["lint", str(jobs), str(tmp_path / "nowhere")]) == 1
    out = capsys.readouterr().out
    assert f"'etl' is the id of another DAG, in {tmp_path}/dags/etl.py" in out
    assert "'nightly' is the id of another DAG" in out
    assert "4 items are more than [core] max_map_length (3)" in out
    assert "nowhere:1:1: no such file or folder" in out


def test_lint_advises_to_share_task_instances_where_lists_are_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = {"payload": [{"api": "x"}] * 900}
    (tmp_path / "long.job.json").write_text(json.dumps(many))
    (tmp_path / "shared.job.json").write_text(json.dumps({**many, "configuration": {"itemsPerTask": 300}}))
    assert main(["lint", str(tmp_path)]) == 0
    found = capsys.readouterr()
    assert found.out == "", "advice is no fault"
    assert "long.job.json: note: 900 items" in found.err
    assert "itemsPerTask, such as 900" in found.err
    assert "shared.job.json" not in found.err


def test_the_example_job_files_are_without_fault() -> None:
    assert main(["lint", str(Path(__file__).parents[2] / "dags" / "jobs")]) == 0


def test_the_job_files_of_the_readme_are_without_fault(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    blocks = [
        textwrap.dedent(block) for block in re.findall(r"^ *```yaml\n(.*?)^ *```", readme, re.DOTALL | re.MULTILINE)
    ]
    assert len(blocks) == 4
    for number, block in enumerate(blocks):
        path = tmp_path / f"block-{number}.job.yaml"
        # Some show a part only.
        path.write_text(block if "payload:" in block else f"payload: [{{api: list-products}}]\n{block}")
        assert main(["lint", str(path)]) == 0, block


def test_schema_prints_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Airflow job"


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("module", ["spec", "store", "linting", "cli", "errors"])
def test_what_needs_no_airflow_does_not_import_it(module: str) -> None:
    code = f"import sys, airflow_jobs_plugin.{module}; print([m for m in sys.modules if m.split('.')[0] == 'airflow'])"
    assert in_a_new_process(code) == "[]\n"


def test_parsing_imports_no_http_client_and_no_provider() -> None:
    modules = ("aiohttp", "requests", "boto3", "airflow.providers.http.hooks", "airflow.providers.amazon.aws")
    code = (
        "import sys, airflow_jobs_plugin.factory, airflow_jobs_plugin.targets.http, airflow_jobs_plugin.plugin\n"
        f"print([m for m in {modules} if m in sys.modules])"
    )
    assert in_a_new_process(code).splitlines()[-1] == "[]"


def test_the_spec_is_imported_in_less_than_three_tenths_of_a_second() -> None:
    def seconds(imports: str) -> float:
        code = f"import time; t = time.process_time(); {imports}; print(time.process_time() - t)"
        return min(float(in_a_new_process(code)) for _ in range(3))

    # On a machine that others use, a second of the processor does less: what pydantic alone takes there is the measure.
    pydantic = "import pydantic.fields, pydantic.functional_validators, pydantic.types; pydantic.BaseModel"
    took, allowed = seconds("import airflow_jobs_plugin.spec"), max(0.3, 2.2 * seconds(pydantic))
    assert took < allowed


def test_next_prints_one_utc_instant_per_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.job.yaml"
    path.write_text(GOOD + 'schedule: {calendars: [{hour: 9}], intervals: [{every: 1500ms}], timezone: "Asia/Tokyo"}\n')
    assert main(["next", str(path), "--after", "2026-11-23T23:59:58.500Z", "--count", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "2026-11-24T00:00:00Z",
        "2026-11-24T00:00:01.500Z",
        "2026-11-24T00:00:03Z",
    ]


def test_next_is_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.job.yaml"
    path.write_text(GOOD + "schedule: {calendars: [{hour: 9}], timezone: Asia/Tokyo}\n")
    assert main(["next", str(path), "--count", "2"]) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert "in Asia/Tokyo" in head
    assert "09:00:00 JST" in first
    assert "T00:00:00Z" in second


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (GOOD, [], "has no schedule"),
        (GOOD + "schedule: {}\n", [], "3:1: schedule: the schedule is empty"),
        (GOOD + "schedule: {intervals: [{every: 1d}]}\n", ["--after", "soon"], "--after: 'soon' is not a date"),
    ],
)
def test_next_says_what_is_wrong(
    text: str, arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.job.yaml"
    path.write_text(text)
    assert main(["next", str(path), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_next_answers_in_half_a_second_without_airflow(tmp_path: Path) -> None:
    path = tmp_path / "x.job.yaml"
    path.write_text(GOOD + "schedule: {calendars: [{hour: 9}], timezone: Europe/Berlin}\n")
    code = (
        "import sys, time; t = time.process_time()\n"
        "from airflow_jobs_plugin.cli import main\n"
        f"main(['next', {str(path)!r}, '--after', '2026-01-01T00:00:00Z', '--count', '5'])\n"
        "print(time.process_time() - t, 'airflow' in sys.modules)"
    )
    fastest, imported = min(in_a_new_process(code).splitlines()[-1].split() for _ in range(3))
    assert imported == "False"
    assert float(fastest) < 0.5
