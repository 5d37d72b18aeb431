"""The exercises of lab 08: starters, solutions, hints. `checks` and `checks_workers` judge the answers.

Starters and solutions are ordinary functions: a learner's code is compared with the starter's source, and
`lab.solution` prints the solution's.
"""

from __future__ import annotations

import numpy as np

from labs_lib import text_pipeline as text  # the notebook's name for it
from labs_lib.exercises import Exercise
from labs_lib.text_pipeline import checks, checks_workers


def split_starter(strings, job, workers):
    # YOUR TURN: each task carries the whole job, with its vocabulary; text.traffic(tasks) counts bytes
    tasks = []
    for index, s in enumerate(strings):
        tasks.append((text.chunk_rows, text.pipeline_row, [s], index, job))
    return tasks


def split_solution(strings, job, workers):
    size = max(1, -(-len(strings) // workers))  # rounded up
    tasks = []
    for start in range(0, len(strings), size):
        tasks.append((text.chunk_rows, text.pipeline_row, strings[start : start + size], start, job))
    return tasks


def remove_starter(codes, offsets, drop):
    # YOUR TURN: one step for each string; codes[~drop] is a single one, but where does each string begin then?
    kept, begins = [codes[:0]], [0]
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        part = codes[start:end][~drop[start:end]]
        kept.append(part)
        begins.append(begins[-1] + len(part))
    return np.concatenate(kept), np.array(begins)


def remove_solution(codes, offsets, drop):
    dropped_before = np.concatenate([[0], np.cumsum(drop)])
    return codes[~drop], offsets - dropped_before[offsets]


def shuffle_starter(words, offsets, keys):
    # YOUR TURN: one sort for each sentence; which single sort would keep each word in its sentence?
    shuffled = words.copy()
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        order = np.argsort(keys[start:end], kind="stable")
        shuffled[start:end] = words[start:end][order]
    return shuffled


def shuffle_solution(words, offsets, keys):
    sentence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return words[np.lexsort((keys, sentence))]  # by sentence first, then by key; equal ones keep their order


def numbers_starter(corpus, first, seed, worker):
    # YOUR TURN: with another number of workers, each character gets another number
    rng = np.random.default_rng([seed, worker])
    return rng.random(len(corpus.codes))


def numbers_solution(corpus, first, seed, worker):
    sentence = np.repeat(np.arange(len(corpus)), corpus.lengths)
    position = np.arange(len(corpus.codes)) - corpus.offsets[sentence]
    return text.uniforms(seed, first + sentence, position)


EXERCISES = {
    exercise.id: exercise
    for exercise in (
        Exercise(
            id="8.1",
            title="a tenth of the bytes",
            minutes=10,
            difficulty=2,
            checked="every row, that all workers have work, then the bytes pickled to the workers and back",
            starter=split_starter,
            solution=split_solution,
            why=(
                "A task is pickled with all that it carries, so whatever is the same for every string is sent once a "
                "task: one task for each worker sends the vocabulary `workers` times, not `len(strings)` times."
            ),
            hints=(
                "text.traffic(tasks) gives the bytes sent and returned. What in a task is the same for each string?",
                "text.chunk_rows(row, strings, first, job) takes many strings. `first` is the index of the first one.",
                "Cut strings into parts of len(strings) / workers, rounded up and at least 1: "
                "strings[start : start + size], start.",
            ),
            check=checks_workers.check_split,
        ),
        Exercise(
            id="8.2",
            title="remove without a loop",
            minutes=10,
            difficulty=2,
            checked="codes and offsets on fresh corpora, then the Python steps: as many for 400 strings as for 40",
            starter=remove_starter,
            solution=remove_solution,
            why=(
                "One mask removes from all strings at once. A string then begins earlier by the number of characters "
                "removed before it, which a cumulative sum gives for every place, so also for every offset."
            ),
            hints=(
                "codes[~drop] gives all codes that are kept, in order. How far does the beginning of a string move?",
                "np.cumsum(drop) counts the removed characters up to each place, that place included.",
                "With a zero in front of it, the sum can be indexed by the offsets themselves, also by the last one.",
            ),
            check=checks.check_remove,
        ),
        Exercise(
            id="8.3",
            title="shuffle without a loop",
            minutes=10,
            difficulty=3,
            checked="every word on fresh sentences, ties included, then the Python steps: no more for more sentences",
            starter=shuffle_starter,
            solution=shuffle_solution,
            why=(
                "Sorting by (sentence, key) keeps each word in its sentence and shuffles inside of it, for all "
                "sentences in one call. The keys depend on seed, sentence and position alone, so the order does too."
            ),
            hints=(
                "np.repeat(np.arange(n), lengths) gives each word the number of its sentence.",
                "np.lexsort sorts by several arrays. Which is its first criterion: the first array or the last?",
                "Where two keys of a sentence are equal, the words keep their order: lexsort and kind='stable' do so.",
            ),
            check=checks.check_shuffle,
        ),
        Exercise(
            id="8.4",
            title="any number of workers",
            minutes=10,
            difficulty=3,
            checked="the same numbers from 1, 2, 3 and 7 workers in any order, other ones for another seed",
            starter=numbers_starter,
            solution=numbers_solution,
            why=(
                "A number that is a function of seed, sentence and position does not ask who draws it, or when. So "
                "neither the number of workers nor the order of the parts can change it."
            ),
            hints=(
                "What identifies a character, however the corpus is cut? Neither the worker nor its place in the part.",
                "String i of the part is sentence first + i. Its position is counted from the string's own beginning.",
                "text.uniforms(seed, sentences, positions) takes arrays, with one entry for each character.",
            ),
            check=checks_workers.check_numbers,
        ),
    )
}
