"""How many lines are sent: in few pieces, all of them, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_jobs_plugin.service.results import PIECE, in_pieces


@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_lines_are_sent_many_at_a_time(count: int) -> None:
    lines = [f"{n} {'x' * 90}\n" for n in range(count)]
    pieces = list(in_pieces(lines))
    assert "".join(pieces) == "".join(lines)
    assert len(pieces) <= len("".join(lines)) // PIECE + 1
    assert all(pieces)


def test_no_more_is_read_than_a_piece_needs() -> None:
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "x" * 1000

    next(in_pieces(lines()))
    assert read == -(-PIECE // 1000)
