"""The short form of the fuzzing of definitions: some hundred inputs that are always the same, some that never are."""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz import definitions, judging, making, running
from tests.fuzz.judging import Broken, judge_file, judge_message

DRAWN = secrets.token_hex(4)
#: Inputs of each seed.
COUNT = 400


@pytest.fixture(autouse=True)
def others_use_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside these tests run others. What takes quadratic time takes a hundred times as long."""
    monkeypatch.setattr(judging, "PATIENCE", 4.0)


@pytest.fixture(scope="module")
def judge() -> running.Judge:
    return definitions.make()


@pytest.mark.parametrize("seed", ["always", DRAWN], ids=["always the same", "drawn"])
def test_whatever_is_in_a_definition_it_is_refused_with_a_reason_or_does_no_harm(
    seed: str, judge: running.Judge
) -> None:
    tally = running.judged(judge, seed, range(COUNT))
    told = "\n".join(f"input {number}: {line}\n{where}" for number, line, where in tally.faults[:5])
    assert not tally.faults, f"python -m tests.fuzz.definitions --seed {seed} --inputs {COUNT}\n{told}"
    # Whether it was a test at all.
    assert tally.verdicts["accepted"] > COUNT / 10
    assert tally.verdicts["refused"] > COUNT / 10


@pytest.mark.parametrize("number", range(len(making.BOMBS)))
def test_small_texts_that_are_meant_to_cost_much_do_not(number: int, judge: running.Judge) -> None:
    ending, make = making.BOMBS[number]
    judge_file("bomb", ending, make(10_000).encode())


def test_what_does_not_hold_is_told_with_its_number() -> None:
    def broken(seed: str, number: int) -> str:
        judge_message("fine" if number != 7 else "not\x00fine")
        return "accepted"

    tally = running.judged(broken, "any", range(10))
    assert [number for number, _, _ in tally.faults] == [7]
    assert tally.verdicts == {"accepted": 9, "broken": 1}
    with pytest.raises(Broken, match="repeats a secret"):
        judge_message("it was hunter2hunter2")


def test_an_input_is_made_from_its_seed_and_number_alone() -> None:
    for number in range(50):
        assert making.text(making.rng_of("a", number)) == making.text(making.rng_of("a", number))
