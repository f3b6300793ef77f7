"""Definitions made up by the thousand, through the reader, the models, the timetable and the requests.

One in twenty is the text of a job file, the others go to the models as REST has them: decoded. Of those that are accepted
there one in sixteen is followed to the end, of files every one::

    python -m tests.fuzz.definitions --inputs 100000 --seed 1
"""

from __future__ import annotations

from tests.fuzz import making, running, seeds
from tests.fuzz.judging import judge_definition, judge_file

STEMS = ("nightly", "..", "a b", "é", "-x", "x" * 200, "x.y")


def judge(seed: str, number: int) -> str:
    """Make the input of that number, and judge it."""
    rng = making.rng_of(seed, number)
    if number % 20:
        return "accepted" if judge_definition(making.definition(rng), number % 16 == 1) else "refused"
    ending, data = making.text(rng)
    return "accepted" if judge_file(rng.choice(STEMS), ending, data) else "refused"


def make() -> running.Judge:
    """What a process judges with."""
    # Models are built, and modules imported, when they are first used; that is no input's time.
    for definition in seeds.definitions():
        judge_definition(definition, True)
    return judge


if __name__ == "__main__":
    raise SystemExit(running.report(__doc__.partition("\n")[0], make))
