"""The production topology, as far as it can be checked without an engine that runs containers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yaml"
#: Ends when it has done its work, and is not started again.
ONCE = {"init", "s3-bucket"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def secrets() -> dict[str, str]:
    done = subprocess.run([ROOT / "bin" / "secrets"], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def command() -> list[str]:
    """What understands compose files here."""
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        return [docker, "compose"]
    if alone := shutil.which("docker-compose"):
        return [alone]
    reason = "neither 'docker compose' nor docker-compose is installed (apt-get install docker-compose)"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def config(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    line = [*command(), "--file", str(FILE), "config"]
    return subprocess.run(line, env={**kept, **env}, capture_output=True, text=True, cwd=ROOT / "tests")


def test_compose_takes_the_file_with_the_secrets_that_the_command_makes() -> None:
    done = config(secrets())
    assert not done.returncode, done.stderr
    shown = yaml.safe_load(done.stdout)["services"]
    assert {"postgres", "redis", "api-server", "scheduler", "dag-processor", "triggerer", "worker", "s3"} <= set(shown)


@pytest.mark.parametrize("name", sorted(secrets()))
def test_no_secret_has_a_default(name: str) -> None:
    done = config({key: value for key, value in secrets().items() if key != name})
    assert done.returncode
    assert "bin/secrets" in done.stderr


def test_secrets_are_new_each_time_and_fit_into_urls() -> None:
    first, second = secrets(), secrets()
    assert not set(first.values()) & set(second.values())
    for name, value in first.items():
        if name != "AIRFLOW_FERNET_KEY":
            assert re.fullmatch(r"[0-9a-f]{16,}", value)


def test_images_are_pinned_to_a_release(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert re.search(r":(RELEASE\.)?\d+[.\d-]*\d", service["image"]), name


def test_what_keeps_running_is_looked_after_and_started_again(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) != (name in ONCE), name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name


def test_no_secret_is_in_a_list_of_processes(services: dict[str, Any]) -> None:
    for name, service in services.items():
        words = [*service.get("command", []), *service.get("entrypoint", [])]
        words += service.get("healthcheck", {}).get("test", [])
        assert not re.search(r"(?<!\$)\$\{", " ".join(words)), name


def test_workers_see_neither_the_users_nor_the_database_of_others(services: dict[str, Any]) -> None:
    names = {volume.split(":")[0] for volume in services["worker"]["volumes"]}
    assert names == {"./dags", "logs"}
    assert services["worker"]["deploy"]["replicas"] >= 2


def test_the_image_is_built_from_files_that_are_there() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[2:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed, source
