"""Text pipelines: why parallelism did not help, and what does.

The same misspellings, byte for byte, from loops over characters, better Python, processes, whole-corpus arrays in
NumPy, compiled loops in numba, and torch; since every random number is a function of the seed, the sentence and the
position. Light to import, since spawned workers do: torch and numba are imported where they are used.
"""

from labs_lib.text_pipeline.better_python import better_python, numpy_per_string
from labs_lib.text_pipeline.bpe import PythonBPE, train_bpe
from labs_lib.text_pipeline.corpus import Corpus
from labs_lib.text_pipeline.engines import ENGINES, augment, clean_corpus, dataset, encode, pipeline
from labs_lib.text_pipeline.ladder import Ladder, ladder
from labs_lib.text_pipeline.numba_engine import compile_kernels
from labs_lib.text_pipeline.panels import Measured, pool_panel
from labs_lib.text_pipeline.philox import CHARACTERS, SHUFFLE, WORDS, philox, uniform, uniforms, word, words
from labs_lib.text_pipeline.pictures import flat_picture, ladder_picture, overhead_picture
from labs_lib.text_pipeline.pool_model import PoolCosts
from labs_lib.text_pipeline.processes import (
    METHODS,
    Job,
    Workers,
    chunk_rows,
    chunk_tasks,
    encode_row,
    in_this_process,
    in_threads,
    item_tasks,
    pickled_bytes,
    pipeline_row,
    shared_tasks,
    traffic,
)
from labs_lib.text_pipeline.rates import LETTERS, Rates
from labs_lib.text_pipeline.reference import (
    LENGTH,
    VOCABULARY,
    augment_by_characters,
    by_characters,
    clean,
    encode_by_characters,
    the_case,
)
from labs_lib.text_pipeline.rungs import CASE, REFERENCE, RUNGS, Rung, rungs_here
from labs_lib.text_pipeline.sentences import sentences
from labs_lib.text_pipeline.stream import augment_file
