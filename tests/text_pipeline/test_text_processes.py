"""Processes and threads: the same bytes for any number of workers, and what crosses between them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import labs_lib
import labs_lib.text_pipeline as text
from labs_lib.errors import LabError
from labs_lib.text_pipeline.processes import ranges

STRINGS = [*text.sentences(60), "", "Naïve π 🙂"]
JOB = text.Job(seed=7, length=40)


@pytest.fixture(scope="module")
def expected():
    rows = text.in_this_process(STRINGS, JOB)
    assert rows.tolist() == text.by_characters(STRINGS, 7, JOB.rates, length=40)
    return rows


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_number_of_workers_changes_nothing(expected, count):
    with text.Workers(count) as workers:
        assert workers.start_seconds > 0
        assert np.array_equal(workers.per_item(STRINGS, JOB), expected)
        assert np.array_equal(workers.chunked(STRINGS, JOB), expected)
        assert np.array_equal(workers.chunked(STRINGS, JOB, chunks=7), expected)
        assert np.array_equal(workers.shared(STRINGS, JOB), expected)
        for way in (workers.per_item, workers.chunked, workers.shared):
            assert way([], JOB).shape == (0, 40)


@pytest.mark.parametrize("method", text.METHODS)
def test_every_way_to_start_works_and_warns_of_nothing(method):
    """In a process of its own: forked workers are unsafe beside the threads of this one."""
    program = (
        "import labs_lib.text_pipeline as text\n"
        "if __name__ == '__main__':\n"
        "    job = text.Job(length=8)\n"
        f"    with text.Workers(2, {method!r}) as workers:\n"
        "        rows = workers.shared(['Ab c.', 'd'] * 9, job)\n"
        "    assert (rows == text.in_this_process(['Ab c.', 'd'] * 9, job)).all()\n"
        "    print('same')\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.stdout.strip(), done.stderr) == ("same", "")


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_threads_give_the_same_rows(expected, engine, count):
    assert np.array_equal(text.in_threads(STRINGS, JOB, engine, count), expected)


def test_the_light_row_encodes_alone():
    assert text.in_this_process(["abc"], JOB, text.encode_row).tolist() == [text.encode_by_characters("abc", length=40)]


def test_messages_of_chunks_and_of_names_are_smaller():
    strings, job = text.sentences(2000), text.Job()
    text_bytes = sum(len(s.encode()) for s in strings)
    per_item, chunked = (sum(text.traffic(tasks(strings, job))) for tasks in (text.item_tasks, text.chunk_tasks))
    with text.shared_tasks(strings, job) as (tasks, rows):
        shared = text.traffic(tasks)
        assert np.array_equal(rows, text.pipeline(strings, 0))  # counting ran the tasks
    assert len(tasks) == 2
    assert sum(shared) < 2000
    assert text_bytes < chunked < per_item
    assert len(text.item_tasks(strings, job)) == 2000
    assert len(text.chunk_tasks(strings, job)) == 8


def test_what_a_worker_needs_is_light_to_import():
    program = "import sys, labs_lib.text_pipeline; print(sorted(set(sys.modules) & {'torch', 'numba', 'matplotlib'}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("n", "parts"), [(0, 3), (1, 3), (7, 3), (9, 3), (5, 1)])
def test_ranges_cover_all_once(n, parts):
    found = [i for start, stop in ranges(n, parts) for i in range(start, stop)]
    assert found == list(range(n))
    assert len(ranges(n, parts)) <= parts


def test_what_cannot_be_started_is_said():
    with pytest.raises(LabError, match="can't be started by 'teleport'"):
        text.Workers(2, "teleport")
    with pytest.raises(LabError, match="0 workers"):
        text.Workers(0)
    with pytest.raises(LabError, match="0 threads"):
        text.in_threads(["a"], JOB, count=0)


PROGRAM = """
import labs_lib.text_pipeline as text
from labs_lib.errors import LabError

def own_row(s, index, job):
    return [len(s)] * job.length

if __name__ == "__main__":
    job = text.Job(length=2)
    with text.Workers(2, "spawn") as workers:
        for way in (workers.per_item, workers.chunked):
            try:
                print(way(["abc"], job, own_row).tolist())
            except LabError as error:
                print(error.what)
        print(workers.per_item(["abc"], job).shape)
"""


def test_a_function_that_workers_cannot_import_is_said_before_the_pool_breaks(tmp_path):
    """`-c` is as a notebook: `__main__` is no file. A script's own functions work."""
    (tmp_path / "script.py").write_text(PROGRAM)
    found = []
    for start in (["-c", PROGRAM], [str(tmp_path / "script.py")]):
        command, here = [sys.executable, *start], os.environ | {"PYTHONPATH": str(Path(labs_lib.__file__).parents[1])}
        found.append(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=here).stdout)
    said, ran = found
    assert said.splitlines() == ["A worker can't see own_row."] * 2 + ["(1, 2)"]
    assert ran.splitlines() == ["[[3, 3]]"] * 2 + ["(1, 2)"]
