from __future__ import annotations

import gc
import threading

import pytest

from airflow_jobs_plugin.control.rows import no_collections


def test_garbage_is_looked_for_again_afterwards_whatever_happened() -> None:
    assert gc.isenabled()
    with no_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), no_collections():
        raise ValueError("x")
    assert gc.isenabled()


def test_where_it_was_switched_off_it_stays_so() -> None:
    gc.disable()
    try:
        with no_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_threads_that_overlap_leave_it_on() -> None:
    inside, over = threading.Barrier(8), threading.Barrier(8)

    def work() -> None:
        for _ in range(50):
            with no_collections():
                inside.wait(10)
            over.wait(10)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert gc.isenabled()
