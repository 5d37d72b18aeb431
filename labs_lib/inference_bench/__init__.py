"""Inference benchmark and profile: where the time of a real model goes, and how far it is from the machine's limit."""

from labs_lib.inference_bench.bench import benchmark
from labs_lib.inference_bench.diff import Diff, compare_runs
from labs_lib.inference_bench.exports import read_run
from labs_lib.inference_bench.models import MODELS, Benchable, Info, Model, load
from labs_lib.inference_bench.pictures import latency_picture, speed_picture
from labs_lib.inference_bench.report import write_report
from labs_lib.inference_bench.results import Result, Run
from labs_lib.inference_bench.variants import VARIANTS
