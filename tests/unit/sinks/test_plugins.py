"""A sink of one's own: a distribution with an entry point, as somebody else would write and install it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from airflow_jobs_plugin.api.shapes import SinkOut
from airflow_jobs_plugin.errors import ConfigurationError, DeliveryError
from airflow_jobs_plugin.sinks import sink_for
from airflow_jobs_plugin.sinks.base import Delivery
from airflow_jobs_plugin.spec import BaseSink, Job, explain, masked, plugins
from airflow_jobs_plugin.spec.published import for_client, published
from airflow_jobs_plugin.spec.schema import file_schema, job_schema
from airflow_jobs_plugin.spec.writeonly import join, kept, split

#: The whole of it; README.md explains it.
FOLDER_SINK = '''
from datetime import timedelta
from pathlib import Path
from typing import Literal

from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks.base import Window, chunks
from airflow_jobs_plugin.spec.keys import fill
from airflow_jobs_plugin.spec.sinks import BaseSink


class FolderSink:
    """Writes each delivery to a file."""

    class Spec(BaseSink):
        """A folder that all workers share."""

        type: Literal["folder"]
        folder: str
        """Where files go."""
        token: str | None = None

    window = Window(first=timedelta(seconds=1), total=timedelta(minutes=1))
    format = "json"

    def __init__(self, spec, destinations):
        self._folder = spec.folder

    def destination(self):
        return self._folder

    def deliver(self, delivery):
        path = Path(self._folder, fill("{jobId}-{jobRunId}.json", delivery.names))
        try:
            with path.open("wb") as file:
                file.writelines(chunks(delivery.body))
        except OSError as error:
            raise DeliveryError(f"{path} could not be written: {error.strerror}") from None
        return {"to": str(path), "id": delivery.id}
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a distribution with sinks onto the path, as pip does: modules, and metadata beside them."""
    site = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def put(name: str, source: str, entries: dict[str, str]) -> None:
        metadata = site / f"{name}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{kind} = {value}\n" for kind, value in entries.items())
        (metadata / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{lines}")
        plugins.forget()

    yield put
    plugins.forget()
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(site)):
            del sys.modules[module]


@pytest.fixture
def folder_sink(install: Callable[..., None]) -> None:
    install("folder_sink", FOLDER_SINK, {"folder": "folder_sink:FolderSink"})


def definition(**sink: Any) -> dict[str, Any]:
    return {"id": "x", "payload": [{"api": "a"}], "sink": {"type": "folder", "folder": "/srv/results", **sink}}


def faults(definition: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate(definition)
    return [str(fault) for fault in explain(caught.value)]


@pytest.mark.usefixtures("folder_sink")
def test_a_sink_of_ones_own_delivers(tmp_path: Path) -> None:
    job = Job.model_validate(definition(folder=str(tmp_path), skip_on_fail=True, apisToSend=["a"]))
    assert isinstance(job.sink, BaseSink)
    assert job.sink.skip_on_fail
    sink = sink_for(job.sink, "API")
    message = Delivery("msg_1", io.BytesIO(b"whole"), 5, names={"jobId": "x", "jobRunId": "manual__1+1"})
    assert sink.deliver(message) == {"to": f"{tmp_path}/x-manual__1%2B1.json", "id": "msg_1"}
    assert (tmp_path / "x-manual__1%2B1.json").read_bytes() == b"whole"
    assert (sink.format, sink.window.total.total_seconds(), sink.destination()) == ("json", 60, str(tmp_path))
    away = sink_for(Job.model_validate(definition(folder="/nowhere")).sink)  # type: ignore[arg-type]
    with pytest.raises(DeliveryError, match="No such file"):
        away.deliver(message)


@pytest.mark.usefixtures("folder_sink")
def test_its_faults_are_told_like_any_other() -> None:
    assert faults(definition(fodler="x")) == ["sink.fodler: unknown field 'fodler'; did you mean 'folder'?"]
    assert faults({**definition(), "sink": {"type": "folder"}}) == ["sink.folder: is missing; it is required"]
    assert faults(definition(type="folders")) == ["sink: needs a 'type' that is one of: webhook, s3, folder"]


@pytest.mark.usefixtures("folder_sink")
def test_it_is_shown_without_its_secrets() -> None:
    written = definition(token="hunter2", apisToSend=["a"])
    shown = published(Job.model_validate({**masked(written), "id": "x"}, context={"masked": True}))
    assert shown["sink"] == {
        "type": "folder", "folder": "/srv/results", "token": "***", "apisToSend": ["a"],
        "skipOnFail": False, "delivery": "run",
    }  # fmt: skip
    assert TypeAdapter(SinkOut).validate_python(shown["sink"]) == shown["sink"]
    assert for_client(shown, listed=True)["sink"] == shown["sink"]
    job = Job.model_validate(written)
    assert Job.model_validate({**published(job), "id": "x"}) == job
    assert json.loads(job.model_dump_json(by_alias=True))["sink"]["folder"] == "/srv/results"


@pytest.mark.usefixtures("folder_sink")
def test_its_secrets_are_kept_for_the_very_same_place_only() -> None:
    written = definition(token="hunter2")
    public, secrets = split(written)
    assert "hunter2" not in str(public)
    assert join(public, secrets) == written
    assert kept({**public, "configuration": {"maxRuns": 9}}, public, secrets)[1] == []
    moved = {**public, "sink": {**public["sink"], "folder": "/tmp/mine"}}
    assert [str(fault.path) for fault in kept(moved, public, secrets)[1]] == ["('sink', 'token')"]


def test_a_sink_whose_model_refuses_masks_is_shown_and_its_secrets_stay_in_place(
    install: Callable[..., None],
) -> None:
    strict = FOLDER_SINK.replace("token: str | None = None", "token: Literal['hunter2']")
    install("strict_sink", strict, {"folder": "strict_sink:FolderSink"})
    written = definition(token="hunter2")
    public, secrets = split(written)
    assert Job.model_validate(written).sink is not None
    job = Job.model_validate(public, context={"masked": True})
    assert published(job)["sink"]["token"] == "***"
    assert kept(public, public, secrets)[0] == written
    moved = {**public, "sink": {**public["sink"], "folder": "/tmp/mine"}}
    assert len(kept(moved, public, secrets)[1]) == 1


@pytest.mark.usefixtures("folder_sink")
def test_editors_know_it() -> None:
    for schema in (job_schema(), file_schema()):
        *built_in, ours = schema["properties"]["sink"]["anyOf"][0]["oneOf"]
        assert [option["$ref"] for option in built_in] == ["#/$defs/WebhookSink", "#/$defs/S3Sink"]
        assert ours["properties"]["type"] == {"const": "folder", "type": "string"}
        assert ours["properties"]["folder"]["description"] == "Where files go."
        assert ("skip_on_fail" in ours["properties"]) == ("$schema" in schema)


def test_a_stored_job_is_shown_also_where_its_plug_in_is_not() -> None:
    plugins.forget()
    assert faults(definition()) == ["sink: needs a 'type' that is one of: webhook, s3"]
    public = masked(definition(token="hunter2"))
    shown = published(Job.model_validate(public, context={"masked": True}))["sink"]
    assert shown == {**public["sink"], "skipOnFail": False, "delivery": "run"}
    assert TypeAdapter(SinkOut).validate_python(shown) == shown
    unknown = Job.model_validate(public, context={"masked": True}).sink
    with pytest.raises(ConfigurationError, match="'folder' is not installed here"):
        sink_for(unknown)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "value", "said"),
    [
        ("import nothing_of_that_name", "broken:Sink", "comes from broken:Sink in broken, which cannot be loaded: "
         "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("", "broken:Sink", "cannot be loaded: AttributeError"),
        ("raise SystemError('at import')", "broken:Sink", "cannot be loaded: SystemError: at import"),
        ("Sink = 5", "broken:Sink", "which should be a class and is not"),
        ("class Sink: pass", "broken:Sink", "comes from broken.Sink, which needs an inner class Spec"),
        ("class Sink:\n    class Spec: pass", "broken:Sink", "subclass of airflow_jobs_plugin.spec.sinks.BaseSink"),
    ],
)  # fmt: skip
def test_a_broken_plug_in_costs_its_own_jobs_and_says_why(
    source: str, value: str, said: str, install: Callable[..., None]
) -> None:
    install("broken", source, {"folder": value})
    (fault,) = faults(definition())
    assert fault.startswith("sink: ")
    assert said in fault
    Job.model_validate({**definition(), "sink": {"type": "s3", "bucket": "abc"}})
    assert len(job_schema()["properties"]["sink"]["anyOf"][0]["oneOf"]) == 2


def test_of_two_sinks_of_one_type_none_is_taken(install: Callable[..., None]) -> None:
    install("one_sink", FOLDER_SINK, {"folder": "one_sink:FolderSink"})
    install("other_sink", FOLDER_SINK, {"folder": "other_sink:FolderSink"})
    (fault,) = faults(definition())
    assert "registered more than once, by one_sink:FolderSink in one_sink and other_sink:FolderSink" in fault


def test_a_built_in_type_is_not_for_others(install: Callable[..., None]) -> None:
    install("folder_sink", FOLDER_SINK, {"s3": "folder_sink:FolderSink", "webhook": "folder_sink:FolderSink"})
    assert "folder" in str(faults({**definition(), "sink": {"type": "s3", "bucket": "abc", "folder": "x"}}))
    assert len(job_schema()["properties"]["sink"]["anyOf"][0]["oneOf"]) == 2
    assert faults(definition()) == ["sink: needs a 'type' that is one of: webhook, s3"]


def test_nothing_is_looked_up_for_types_that_are_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise AssertionError("looked up")

    plugins.forget()
    monkeypatch.setattr(plugins, "entry_points", refuse)
    Job.model_validate({**definition(), "sink": {"type": "s3", "bucket": "abc"}})


def saying(install: Callable[..., None], what: str, **sink: Any) -> Any:
    """A sink whose every delivery ends with a line of code."""
    begin = FOLDER_SINK.index("        path = Path(")
    install("odd_sink", f"{FOLDER_SINK[:begin]}        {what}\n", {"folder": "odd_sink:FolderSink"})
    return sink_for(Job.model_validate(definition(**sink)).sink)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("returned", "kept"),
    [
        ("{'status': 'failed', 'tries': 9, 'bytes': 1, 'to': 'x', 'id': 'm'}", {"to": "x", "id": "m"}),
        ("{'to': object(), 'when': timedelta(1), 'n': float('nan'), 3: 4}", {"to": "/srv/results"}),
        ("{'a': {'b': [1, None, 2.5, 'x']}, 'c': {'d': {1, 2}}, 'e': [object()]}",
         {"a": {"b": [1, None, 2.5, "x"]}, "to": "/srv/results"}),
        ("{'etag': 'a\\0b\\ud800', 'statusCode': 'fine'}", {"etag": "ab?", "to": "/srv/results"}),
        ("{'huge': 'x' * 100000, 'to': 'x'}", {"to": "x"}),
        ("None", {"to": "/srv/results"}),
        ("'delivered'", {"to": "/srv/results"}),
    ],
)  # fmt: skip
def test_a_receipt_is_kept_as_far_as_it_is_json_and_not_ours_to_say(
    returned: str, kept: dict[str, Any], install: Callable[..., None]
) -> None:
    receipt = saying(install, f"return {returned}").deliver(Delivery("msg_1", io.BytesIO(b""), 0))
    assert receipt == kept
    json.dumps(receipt, allow_nan=False)


def test_whatever_a_sink_raises_is_a_delivery_that_failed(install: Callable[..., None]) -> None:
    sink = saying(install, "raise RuntimeError('token hunter2 was refused')", token="hunter2")
    with pytest.raises(DeliveryError, match="'folder' failed with RuntimeError; the log") as caught:
        sink.deliver(Delivery("msg_1", io.BytesIO(b""), 0))
    assert caught.value.retriable


def test_what_a_sink_says_of_its_failure_is_told_without_its_secrets(install: Callable[..., None]) -> None:
    said = "DeliveryError('hunter2\\0 ' + 'x' * 5000, retriable=False, status_code='no', retry_after='soon')"
    sink = saying(install, f"raise {said}", token="hunter2")
    with pytest.raises(DeliveryError) as caught:
        sink.deliver(Delivery("msg_1", io.BytesIO(b""), 0))
    error = caught.value
    assert str(error).startswith("*** xxx")
    assert (len(str(error)), error.retriable, error.status_code, error.retry_after) == (1000, False, None, None)


def test_a_sink_without_a_window_is_a_fault_of_the_set_up(install: Callable[..., None]) -> None:
    install("odd_sink", FOLDER_SINK.replace("window =", "door ="), {"folder": "odd_sink:FolderSink"})
    with pytest.raises(ConfigurationError, match="'folder' has no 'window'"):
        sink_for(Job.model_validate(definition()).sink)  # type: ignore[arg-type]
