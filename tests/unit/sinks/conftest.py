"""A real server that speaks S3, in a process of its own, so that what it keeps counts as nobody else's memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from airflow_jobs_plugin.demo.server import LocalServer, Received, Reply

KEYS = {"accessKeyId": "AKIAEXAMPLE0000000", "secretAccessKey": "example/secret+key"}


@dataclass(frozen=True)
class Store:
    """Where it is, and a client of its own with all rights."""

    url: str
    client: Any

    def bodies(self, bucket: str = "results") -> dict[str, bytes]:
        """Every object of a bucket by its key."""
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {o["Key"]: self.client.get_object(Bucket=bucket, Key=o["Key"])["Body"].read() for o in found}


class Answers(LocalServer):
    """Answers every request with what it was told to."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__()
        self.replies = list(replies)

    def reply(self, request: Received) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"moto's server ended with {process.returncode}")
            try:
                httpx.get(f"{url}/moto-api/", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _no_account_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def store(moto: str, _no_account_of_this_machine: None) -> Store:
    """The store with an empty bucket ``results``."""
    httpx.post(f"{moto}/moto-api/reset", timeout=30).raise_for_status()
    client = boto3.client(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="root",
        aws_secret_access_key="root",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="results")
    return Store(moto, client)
