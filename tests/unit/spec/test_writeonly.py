from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_jobs_plugin.spec.secrets import MASK
from airflow_jobs_plugin.spec.writeonly import join, kept, masks, split

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DEFINITION: dict[str, Any] = {
    "id": "x",
    "payload": [{"api": "a", "parameters": {"password": "hunter2", "page": 1}}, {"api": "b"}],
    "target": {"connId": "prices", "headers": {"Authorization": "Bearer hunter3"}},
    "proxy": "http://user:hunter4@proxy:3128",
    "sink": {"type": "webhook", "url": "https://h.example/?key=hunter5", "secret": SECRET, "headers": {"X": "hunter6"}},
}


def test_what_is_taken_apart_is_put_together_again() -> None:
    public, secrets = split(DEFINITION)
    assert "hunter" not in str(public)
    assert SECRET not in str(public)
    assert join(public, secrets) == DEFINITION
    assert public["payload"][0] == {"api": "a", "parameters": {"password": MASK, "page": 1}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "password", "headers", "url", "token"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["sink", "target", "proxy", "payload", "x"]), json_values, max_size=4))
def test_nothing_is_lost_whatever_the_definition(definition: dict[str, Any]) -> None:
    before = deepcopy(definition)
    public, secrets = split(definition)
    assert join(public, secrets) == definition == before


def test_masks_stand_for_what_is_stored() -> None:
    public, secrets = split(DEFINITION)
    edited = {**deepcopy(public), "id": "x", "configuration": {"maxConcurrentRequests": 9}}
    merged, faults = kept(edited, public, secrets)
    assert faults == []
    assert merged == {**DEFINITION, "configuration": {"maxConcurrentRequests": 9}}
    # A new value replaces the stored one.
    edited["sink"]["secret"] = "bmV3"
    merged, faults = kept(edited, public, secrets)
    assert (merged["sink"]["secret"], faults) == ("bmV3", [])
    assert merged["sink"]["headers"] == {"X": "hunter6"}


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"sink": {"url": "https://elsewhere.example/"}}, {"sink.secret", "sink.headers.X"}),
        ({"target": {"connId": "mine"}}, {"target.headers.Authorization", "payload[0].parameters.password"}),
        ({"target": {"path": "/other/{api}"}}, {"target.headers.Authorization", "payload[0].parameters.password"}),
        (
            {"proxy": "http://mine:3128"},
            {"target.headers.Authorization", "payload[0].parameters.password"},
        ),
    ],
    # Sets are written in another order by every process; those that share the tests need one name for each.
    ids=lambda value: str(sorted(value)),
)
def test_a_secret_is_not_kept_for_another_place(change: dict[str, Any], lost: set[str]) -> None:
    public, secrets = split(DEFINITION)
    edited = {**deepcopy(public), "id": "x"}
    for name, value in change.items():
        edited[name] = {**edited[name], **value} if isinstance(value, dict) else value
    _, faults = kept(edited, public, secrets)
    assert {str(fault).partition(":")[0] for fault in faults} == lost
    assert all("give it again" in fault.message for fault in faults)


@pytest.mark.parametrize("path", ["startPath", "resultPath", "cancelPath"])
def test_a_secret_is_not_kept_for_another_path_of_a_run_api(path: str) -> None:
    target = {"type": "run-api", "headers": {"X-Key": "hunter2"}}
    public, secrets = split({"payload": [{"api": "a"}], "target": target})
    edited = {**deepcopy(public), "id": "x"}
    assert kept(edited, public, secrets)[1] == []
    edited["target"][path] = "/elsewhere" if path == "startPath" else "/elsewhere/{runId}"
    assert [str(fault).partition(":")[0] for fault in kept(edited, public, secrets)[1]] == ["target.headers.X-Key"]


def test_an_item_in_another_place_does_not_get_its_neighbours_secret() -> None:
    public, secrets = split({**DEFINITION, "payload": [{"api": n, "parameters": {"token": f"t-{n}"}} for n in "ab"]})
    swapped = {**deepcopy(public), "id": "x", "payload": public["payload"][::-1]}
    _, faults = kept(swapped, public, secrets)
    assert [fault.path for fault in faults] == [("payload", n, "parameters", "token") for n in (0, 1)]


def test_a_mask_where_nothing_is_stored_is_a_fault() -> None:
    public, secrets = split({"id": "x", "payload": [{"api": "a"}]})
    edited = {**public, "target": {"headers": {"X": MASK}}}
    _, (fault,) = kept(edited, public, secrets)
    assert str(fault) == "target.headers.X: '***' stands for a stored secret, and none is stored here; give the value"
    assert masks({"payload": [{"api": "***", "parameters": {"text": "a *** b"}}]}) == []
    assert masks({"proxy": "http://***@proxy:1", "sink": {"url": "https://x/?k=***"}}) == [("proxy",), ("sink", "url")]
