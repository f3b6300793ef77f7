from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_jobs_plugin.errors import JobFileError
from airflow_jobs_plugin.store import JobFiles, lint
from airflow_jobs_plugin.store.files import JobFileErrors, find, read
from airflow_jobs_plugin.store.neighbours import python_dag_ids

GOOD = "payload:\n  - api: x\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_job_files_are_found_by_name_in_sub_folders_too(folder: Path) -> None:
    write(
        folder,
        {
            "a.job.yaml": GOOD,
            "deep/er/b.job.yml": GOOD,
            "c.job.json": '{"payload": [{"api": "x"}]}',
            "d.yaml": GOOD,
            "README.md": "",
            ".hidden/e.job.yaml": GOOD,
            ".f.job.yaml": GOOD,
        },
    )
    assert [path.name for path in find(folder)] == ["a.job.yaml", "c.job.json", "b.job.yml"]
    assert [stored.job.id for stored in JobFiles(folder).load_all().jobs] == ["a", "b", "c"]
    assert JobFiles(folder / "nowhere").load_all().jobs == []


def test_one_broken_file_costs_one_job(folder: Path) -> None:
    write(folder, {"good.job.yaml": GOOD, "bad.job.yaml": "payload:\n  - api: x\n    paramters: {}\n"})
    loaded = JobFiles(folder).load_all()
    assert [stored.job.id for stored in loaded.jobs] == ["good"]
    (fault,) = loaded.all_faults()
    assert (fault.line, fault.column) == (3, 5)
    assert "unknown field 'paramters'; did you mean 'parameters'?" in str(fault)


def test_files_that_cannot_be_read_are_faults_and_not_crashes(folder: Path) -> None:
    write(
        folder,
        {"binary.job.yaml": b"a: \xff", "empty.job.json": "", "list.job.yaml": "- 1", "a b.job.yaml": GOOD},
    )
    os.mkfifo(folder / "pipe.job.yaml")
    os.symlink("nowhere", folder / "link.job.yaml")
    os.symlink("/proc/self/mem", folder / "unreadable.job.yaml")  # fails to be read, for root too
    write(folder, {"good.job.yaml": GOOD})
    loaded = JobFiles(folder).load_all()
    said = {Path(fault.path).name: fault.message for fault in loaded.all_faults()}
    assert [stored.job.id for stored in loaded.jobs] == ["good"]
    assert said["binary.job.yaml"].startswith("not UTF-8")
    assert said["empty.job.json"].startswith("the file is empty")
    assert said["list.job.yaml"] == "a job file holds an object with fields, not a list"
    assert said["pipe.job.yaml"] == "cannot be read: not a regular file"
    assert said["link.job.yaml"] == "cannot be read: No such file or directory"
    assert said["unreadable.job.yaml"].startswith("cannot be read: ")
    assert "its name gives none" in said["a b.job.yaml"]
    assert JobFiles(folder).load("nobody") is None


@pytest.mark.parametrize("name", [b"caf\xe9.job.yaml", b"two\nlines.job.yaml"])
def test_file_names_that_cannot_be_shown_are_faults_that_can(folder: Path, name: bytes) -> None:
    (folder / os.fsdecode(name)).write_text("id: fine\n" + GOOD)
    (fault,) = JobFiles(folder).load_all().all_faults()
    assert "rename the file" in str(fault)
    assert str(fault).isprintable()
    str(fault).encode()


def test_folders_that_are_links_count_and_loops_end(folder: Path) -> None:
    write(folder, {"elsewhere/a.job.yaml": GOOD, "jobs/b.job.yaml": GOOD})
    os.symlink(folder / "elsewhere", folder / "jobs" / "linked")
    os.symlink(folder / "jobs", folder / "jobs" / "loop")
    assert [stored.job.id for stored in JobFiles(folder / "jobs").load_all().jobs] == ["a", "b"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission_are_faults(folder: Path) -> None:
    write(folder, {"a.job.yaml": GOOD})
    (folder / "a.job.yaml").chmod(0)
    assert "Permission denied" in str(next(JobFiles(folder).load_all().all_faults()))


def test_of_two_files_with_one_id_the_one_named_after_it_wins(folder: Path) -> None:
    write(folder, {"a.job.yaml": "id: z\n" + GOOD, "z.job.yaml": GOOD, "b.job.yaml": "id: y\n" + GOOD})
    write(folder, {"c/y2.job.yaml": "id: y\n" + GOOD})
    files = JobFiles(folder)
    loaded = files.load_all()
    assert {s.job.id: Path(s.location).name for s in loaded.jobs} == {"z": "z.job.yaml", "y": "b.job.yaml"}
    assert {Path(path).name for path in loaded.faults} == {"a.job.yaml", "y2.job.yaml"}
    assert all("is already defined in" in fault.message for fault in loaded.all_faults())
    for stored in loaded.jobs:
        assert files.load(stored.job.id) == stored, "a worker sees the same job as the parser"


def test_of_two_files_named_after_an_id_the_least_deep_wins(folder: Path) -> None:
    write(folder, {"a/deep/z.job.yaml": GOOD, "b/z.job.yaml": GOOD, "c/z.job.yaml": GOOD})
    files = JobFiles(folder)
    assert [stored.location for stored in files.load_all().jobs] == [str(folder / "b" / "z.job.yaml")]
    assert files.load("z") == files.load_all().jobs[0]


def test_one_job_is_found_whatever_its_file_is_called(folder: Path) -> None:
    write(
        folder,
        {
            "plain.job.yaml": GOOD,
            "other.job.yaml": "id: renamed\n" + GOOD,
            "escaped.job.json": '{"id": "esc\\u0061ped-id", "payload": [{"api": "x"}]}',
            "broken.job.yaml": "payload: 5",
        },
    )
    files = JobFiles(folder)
    for job_id in ("plain", "renamed", "escaped-id"):
        stored = files.load(job_id)
        assert stored is not None
        assert stored.job.id == job_id
    assert files.load("other") is None
    with pytest.raises(JobFileError, match="payload"):
        files.load("broken")


def test_one_job_among_many_reads_only_its_own_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {f"job-{n}.job.yaml": GOOD for n in range(100)})
    opened: list[str] = []
    real = os.open

    def counting(path, *rest, **more):  # type: ignore[no-untyped-def]
        opened.append(str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", counting)
    assert JobFiles(folder).load("job-42") is not None
    assert [Path(path).name for path in opened] == ["job-42.job.yaml"]


def test_lint_reports_ids_that_several_given_files_share(folder: Path) -> None:
    write(folder, {"a/x.job.yaml": GOOD, "b/x.job.yaml": GOOD, "notes.txt": ""})
    loaded = lint([folder / "a", folder / "b" / "x.job.yaml", folder / "notes.txt"])
    assert [fault.message.split(" ")[0:4] for fault in loaded.all_faults()] == [
        ["the", "id", "'x'", "is"],
        ["not", "a", "job", "file"],
    ]


def test_ids_of_python_dags_are_those_that_are_defined_and_not_those_that_are_mentioned(folder: Path) -> None:
    write(
        folder,
        {
            "a.py": """
from airflow.sdk import DAG, dag
# dag_id="mentioned"
query = TaskInstance.filter(dag_id="mentioned")
with DAG("first"): ...
models.DAG(dag_id="second")
@dag
def third(): ...
@dag(schedule=None)
def fourth(): ...
@dag(dag_id="fifth")
def not_an_id(): ...
""",
            "broken.py": 'DAG("sixth"',
        },
    )
    os.mkfifo(folder / "pipe.py")
    wanted = {"mentioned", "first", "second", "third", "fourth", "fifth", "not_an_id", "sixth", "other"}
    assert set(python_dag_ids(folder, wanted)) == {"first", "second", "third", "fourth", "fifth"}
    assert python_dag_ids(folder, {"other"}) == {}


def test_of_very_many_faults_the_first_are_told(tmp_path: Path) -> None:
    payload = ", ".join(['{"api": ""}'] * 1000)
    with pytest.raises(JobFileErrors) as caught:
        read(tmp_path / "x.job.json", f'{{"payload": [{payload}]}}'.encode())
    assert len(caught.value.faults) == 101
    assert caught.value.faults[-1].message == "and 900 more faults"
