from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_jobs_plugin.run.batches import Appendage, Batch, cut, is_batch, sizes_of


@given(st.integers(1, 3000), st.integers(1, 500))
def test_batches_cover_the_list_without_gaps(count: int, size: int) -> None:
    batches = cut(count, size, "p")
    assert [index for batch in batches for index in range(batch.first, batch.end)] == list(range(count))
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert max(batch.count for batch in batches) <= size
    assert sum(sizes_of(batches)["sizes"]) == count


def test_a_reference_is_read_as_it_was_written_and_is_no_item() -> None:
    batch = Batch(3, 20, 5, "p").grown(Appendage("mark", 25, 2, 1, 4))
    assert Batch.read(batch.written()) == batch
    assert batch.end == 27
    assert is_batch(batch.written())
    assert not is_batch({"api": "a", "parameters": "{}"})
