"""Each exercise of lab 08: starter, solution, and wrong answers, each with the message it must earn."""

import random
import sys
import threading
from itertools import pairwise

import numpy as np

import labs_lib.text_pipeline as text
from labs_lib.text_pipeline.attempts import noting_work, steps_of
from labs_lib.text_pipeline.exercises import EXERCISES
from tests.exercise_tests import ExerciseTests

# --- 8.1 --------------------------------------------------------------------------------------------


def in_parts(strings, job, size, row=text.pipeline_row, first=lambda start: start):
    starts = range(0, len(strings), max(1, size))
    return [(text.chunk_rows, row, strings[i : i + max(1, size)], first(i), job) for i in starts]


def up(n, workers):
    return -(-n // workers)


def one_task_for_all(strings, job, workers):
    return in_parts(strings, job, len(strings))


def many_small_tasks(strings, job, workers):
    return in_parts(strings, job, 5)


def each_part_begins_at_zero(strings, job, workers):
    return in_parts(strings, job, up(len(strings), workers), first=lambda start: 0)


def drops_the_remainder(strings, job, workers):
    size = max(1, len(strings) // workers)
    return in_parts(strings[: len(strings) // size * size] if len(strings) > workers else strings, job, size)


def every_nth(strings, job, workers):
    return [
        (text.chunk_rows, text.pipeline_row, strings[worker::workers], worker, job)
        for worker in range(workers)
        if worker < len(strings)
    ]


def backwards(strings, job, workers):
    return in_parts(strings, job, up(len(strings), workers))[::-1]


def without_the_vocabulary(strings, job, workers):
    job = text.Job(job.seed, job.rates, length=job.length)
    return in_parts(strings, job, up(len(strings), workers))


def does_the_work_itself(strings, job, workers):
    rows = text.pipeline(strings, job.seed, job.rates, job.vocabulary, job.length)
    return [(np.asarray, part) for part in np.array_split(rows, workers)]


def with_a_lambda(strings, job, workers):
    tasks = in_parts(strings, job, up(len(strings), workers))
    return [(lambda part=part: text.chunk_rows(*part[1:]),) for part in tasks]


def with_a_notebooks_function(strings, job, workers):
    def rows(*arguments):
        return text.chunk_rows(*arguments)

    rows.__module__ = "__main__"
    return [(rows, *task[1:]) for task in in_parts(strings, job, up(len(strings), workers))]


def with_a_lock(strings, job, workers):
    return [(*task, threading.Lock()) for task in in_parts(strings, job, up(len(strings), workers))]


def bare_rows(strings, job, workers):
    return text.item_tasks(strings, job)


def calls_instead_of_tasks(strings, job, workers):
    return len(in_parts(strings, job, up(len(strings), workers)))


def parts_without_a_function(strings, job, workers):
    return [strings[start:stop] for start, stop in pairwise([0, len(strings) // 2, len(strings)])]


def empties_the_callers_list(strings, job, workers):
    tasks = in_parts(list(strings), job, up(len(strings), workers))
    strings.clear()
    return tasks


def by_borders(strings, job, workers):
    borders = [len(strings) * i // workers for i in range(workers + 1)]
    return [(text.chunk_rows, text.pipeline_row, strings[start:stop], start, job) for start, stop in pairwise(borders)]


def by_the_library(strings, job, workers):
    return text.chunk_tasks(strings, job, chunks=2 * workers)


# --- 8.2 --------------------------------------------------------------------------------------------


def removed(codes, offsets, drop):
    return codes[~drop], offsets - np.concatenate([[0], np.cumsum(drop)])[offsets]


def offsets_as_before(codes, offsets, drop):
    return codes[~drop], offsets.copy()


def by_reduceat(codes, offsets, drop):
    """Where a string is empty, `reduceat` gives the one element at its place instead of no sum."""
    if not len(codes) or len(offsets) < 2:
        return removed(codes, offsets, drop)
    kept = np.add.reduceat(np.append(~drop, False), offsets[:-1], dtype=np.int64)
    return codes[~drop], np.concatenate([[0], np.cumsum(kept)])


def with_the_place_itself(codes, offsets, drop):
    """The sum without a zero in front counts the string's own first character as before it."""
    before = np.append(np.cumsum(drop), drop.sum())
    return codes[~drop], offsets - before[np.minimum(offsets, len(drop))]


def keeps_what_should_go(codes, offsets, drop):
    return codes[drop], offsets


def without_the_last_offset(codes, offsets, drop):
    codes, offsets = removed(codes, offsets, drop)
    return codes, offsets[:-1]


def for_bytes_only(codes, offsets, drop):
    codes, offsets = removed(codes, offsets, drop)
    return codes.astype(np.uint8), offsets


def by_a_comprehension(codes, offsets, drop):
    ends = np.cumsum([0, *[int((~drop[start:end]).sum()) for start, end in pairwise(offsets)]])
    return codes[~drop], ends


def by_splitting(codes, offsets, drop):
    """No loop to be seen, but `np.split` has one, in Python."""
    parts = np.split(~drop, offsets[1:-1]) if len(offsets) > 1 else []
    return codes[~drop], np.cumsum([0, *map(np.count_nonzero, parts)])


def in_place(codes, offsets, drop):
    result = removed(codes, offsets, drop)
    codes[: len(result[0])] = result[0]
    return result


def only_the_codes(codes, offsets, drop):
    return removed(codes, offsets, drop)[0]


def as_fractions(codes, offsets, drop):
    codes, offsets = removed(codes, offsets, drop)
    return codes, offsets.astype(float)


BUFFER = {}


def one_buffer_for_all(codes, offsets, drop):
    kept, offsets = removed(codes, offsets, drop)
    buffer = BUFFER.setdefault(kept.dtype, np.zeros(100_000, kept.dtype))
    buffer[: len(kept)] = kept
    return buffer[: len(kept)], offsets


def by_searching(codes, offsets, drop):
    return np.delete(codes, np.flatnonzero(drop)), offsets - np.searchsorted(np.flatnonzero(drop), offsets)


def by_counting_owners(codes, offsets, drop):
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    kept = np.bincount(owners[~drop], minlength=len(offsets) - 1)
    return np.compress(~drop, codes), np.cumsum(np.append(0, kept))


# --- 8.3 --------------------------------------------------------------------------------------------


def sentence_of(offsets):
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def by_key_alone(words, offsets, keys):
    return words[np.argsort(keys, kind="stable")]


def criteria_the_wrong_way_round(words, offsets, keys):
    return words[np.lexsort((sentence_of(offsets), keys))]


def shifted_out(words, offsets, keys):
    """32 bits have no room for a sentence above a key."""
    return words[np.argsort(sentence_of(offsets).astype(np.uint32) << np.uint32(32) | keys, kind="stable")]


def ties_backwards(words, offsets, keys):
    places = np.arange(len(words))
    return words[np.lexsort((-places, keys, sentence_of(offsets)))]


def largest_first(words, offsets, keys):
    return words[np.lexsort((~keys, sentence_of(offsets)))]


def the_order_itself(words, offsets, keys):
    return np.lexsort((keys, sentence_of(offsets))).astype(words.dtype)


def gathers_backwards(words, offsets, keys):
    """Puts each word where the sort found its key: the inverse of what is wanted."""
    return words[np.argsort(np.lexsort((keys, sentence_of(offsets))))]


def with_signed_keys(words, offsets, keys):
    """Keys from 2**31 on become negative."""
    return words[np.lexsort((keys.astype(np.int32), sentence_of(offsets)))]


def sorts_in_place(words, offsets, keys):
    words[:] = words[np.lexsort((keys, sentence_of(offsets)))]
    return words


def as_a_list(words, offsets, keys):
    return words[np.lexsort((keys, sentence_of(offsets)))].tolist()


def in_64_bits(words, offsets, keys):
    return words[np.lexsort((keys, sentence_of(offsets)))].astype(np.int64)


def a_loop_in_a_comprehension(words, offsets, keys):
    parts = [start + np.argsort(keys[start:end], kind="stable") for start, end in pairwise(offsets)]
    return words[np.concatenate([np.zeros(0, np.int64), *parts])]


def python_sorts(words, offsets, keys):
    sentence, key = sentence_of(offsets).tolist(), keys.tolist()
    return words[np.array(sorted(range(len(words)), key=lambda i: (sentence[i], key[i])), np.int64)]


def in_one_number(words, offsets, keys):
    return words[np.argsort(sentence_of(offsets) << 32 | keys, kind="stable")]


def twice_stable(words, offsets, keys):
    order = np.argsort(keys, kind="stable")
    return words[order[np.argsort(sentence_of(offsets)[order], kind="stable")]]


# --- 8.4 --------------------------------------------------------------------------------------------


def places(corpus):
    sentence = np.repeat(np.arange(len(corpus)), corpus.lengths)
    return sentence, np.arange(len(corpus.codes)) - corpus.offsets[sentence]


def seeded_by_first(corpus, first, seed, worker):
    return np.random.default_rng([seed, first]).random(len(corpus.codes))


def the_same_for_each_part(corpus, first, seed, worker):
    return np.random.default_rng(seed).random(len(corpus.codes))


def without_a_seed(corpus, first, seed, worker):
    return np.random.default_rng().random(len(corpus.codes))


STREAM = {}


def from_one_stream(corpus, first, seed, worker):
    """Right for parts in order: what comes next depends on what was drawn before."""
    if first == 0:
        STREAM["rng"] = np.random.default_rng(seed)
    return STREAM["rng"].random(len(corpus.codes))


def without_first(corpus, first, seed, worker):
    return text.uniforms(seed, *places(corpus))


def place_in_the_part(corpus, first, seed, worker):
    return text.uniforms(seed, first, np.arange(len(corpus.codes)))


def without_position(corpus, first, seed, worker):
    return text.uniforms(seed, first + places(corpus)[0], np.zeros(len(corpus.codes), np.int64))


def without_sentence(corpus, first, seed, worker):
    return text.uniforms(seed, np.zeros(len(corpus.codes), np.int64), places(corpus)[1])


def without_the_seed_given(corpus, first, seed, worker):
    sentence, position = places(corpus)
    return text.uniforms(0, first + sentence, position)


def seed_plus_index(corpus, first, seed, worker):
    rows = [np.random.default_rng(seed + first + i).random(n) for i, n in enumerate(corpus.lengths.tolist())]
    return np.concatenate([np.zeros(0), *rows])


def always_a_half(corpus, first, seed, worker):
    return np.full(len(corpus.codes), 0.5)


def squared(corpus, first, seed, worker):
    sentence, position = places(corpus)
    return text.uniforms(seed, first + sentence, position) ** 2


def whole_numbers(corpus, first, seed, worker):
    sentence, position = places(corpus)
    return text.words(seed, first + sentence, position, text.CHARACTERS)


def beyond_one(corpus, first, seed, worker):
    sentence, position = places(corpus)
    return 2 * text.uniforms(seed, first + sentence, position)


def one_for_each_string(corpus, first, seed, worker):
    return text.uniforms(seed, first + np.arange(len(corpus)), 0)


def cleans_up(corpus, first, seed, worker):
    sentence, position = places(corpus)
    found = text.uniforms(seed, first + sentence, position)
    corpus.codes[:] = 0
    return found


def a_generator_for_each_string(corpus, first, seed, worker):
    rows = [np.random.default_rng([seed, first + i]).random(n) for i, n in enumerate(corpus.lengths.tolist())]
    return np.concatenate([np.zeros(0), *rows])


def pythons_generator(corpus, first, seed, worker):
    found = []
    for i, length in enumerate(corpus.lengths.tolist(), first):
        rng = random.Random(f"{seed} {i}")
        found += [rng.random() for _ in range(length)]
    return np.array(found, float)


WRONG = {
    "8.1": [
        (one_task_for_all, "one task has 400 of 400 strings, and 4 workers could have 100"),
        (many_small_tasks, "80 tasks for 400 strings"),
        (each_part_begins_at_zero, "depend on the index in the whole list"),
        (drops_the_remainder, "7 strings have 7 rows, and your tasks give 6"),
        (every_nth, "rows are right. Random numbers depend"),
        (backwards, "not in the order of the strings"),
        (without_the_vocabulary, "indices on the job's own vocabulary"),
        (does_the_work_itself, "does the workers' work itself"),
        (with_a_lambda, "can't be pickled"),
        (with_a_notebooks_function, "can't see a notebook's functions"),
        (with_a_lock, "can't be pickled"),
        (bare_rows, "Is a task one bare row?"),
        (calls_instead_of_tasks, "you return an object of type int"),
        (parts_without_a_function, "one of yours is an object of type list"),
        (empties_the_callers_list, "changes the list of strings"),
    ],
    "8.2": [
        (offsets_as_before, "still begins where it did before"),
        (by_reduceat, "a string that was empty is not empty any more"),
        (with_the_place_itself, "the codes are right, but"),
        (keeps_what_should_go, "`drop` is True where a character goes"),
        (without_the_last_offset, "strings have"),
        (for_bytes_only, "codes of uint32 stay uint32"),
        (by_a_comprehension, "A loop over strings is left"),
        (by_splitting, "A loop over strings is left"),
        (in_place, "changes what it is given"),
        (only_the_codes, "return two arrays"),
        (as_fractions, "offsets are whole numbers"),
        (one_buffer_for_all, "they share a buffer"),
    ],
    "8.3": [
        (by_key_alone, "words have left their sentence"),
        (criteria_the_wrong_way_round, "words have left their sentence"),
        (shifted_out, "words have left their sentence"),
        (ties_backwards, "the sort is not stable"),
        (largest_first, "the smallest key comes first"),
        (the_order_itself, "words[order] gives the words"),
        (gathers_backwards, "not where its key puts it"),
        (with_signed_keys, "the smallest key comes first"),
        (sorts_in_place, "changes what it is given"),
        (as_a_list, "you return an object of type list"),
        (in_64_bits, "return an array of uint16"),
        (a_loop_in_a_comprehension, "A loop over sentences is left"),
        (python_sorts, "A loop over sentences is left"),
    ],
    "8.4": [
        (seeded_by_first, "2 workers draw other numbers than one worker does"),
        (the_same_for_each_part, "2 workers draw other numbers than one worker does"),
        (without_a_seed, "the second run gives other numbers"),
        (from_one_stream, "where the last part is done first"),
        (without_first, "2 workers draw other numbers"),
        (place_in_the_part, "2 workers draw other numbers"),
        (without_position, "all characters of a sentence share one number"),
        (without_sentence, "sentences share their numbers"),
        (without_the_seed_given, "another seed gives the same numbers"),
        (seed_plus_index, "the seeds s and s + 1 share"),
        (always_a_half, "all characters of a sentence share one number"),
        (squared, "not uniform"),
        (whole_numbers, "return a float for each"),
        (beyond_one, "some of yours do not"),
        (one_for_each_string, "return a float for each"),
        (cleans_up, "changes what it is given"),
    ],
}
RIGHT = [
    ("8.1", by_borders),
    ("8.1", by_the_library),
    ("8.2", by_searching),
    ("8.2", by_counting_owners),
    ("8.3", in_one_number),
    ("8.3", twice_stable),
    ("8.4", a_generator_for_each_string),
    ("8.4", pythons_generator),
]


class TestExercises(ExerciseTests):
    exercises = EXERCISES
    wrong = WRONG
    right = RIGHT


def test_counting_steps_leaves_tracing_as_it_was():
    def trace(*arguments):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        few, many = (steps_of(lambda n=n: [str(i) for i in range(n)]) for n in (10, 100))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert many - few >= 90
    assert sys.getprofile() is None


def test_work_is_noted_where_it_is_done():
    assert noting_work(text.pipeline, ["a"], 0)[1]
    tasks, worked = noting_work(text.item_tasks, ["a"], text.Job())
    assert (len(tasks), worked) == (1, False)
