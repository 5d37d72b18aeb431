"""Inference benchmark and profile: where the time of a real model goes, and how far it is from the machine's limit."""

from labs_lib.inference_bench.bench import benchmark
from labs_lib.inference_bench.denormals import (
    Case,
    census,
    cleaned,
    count_denormals,
    flushing,
    investigate,
    tagger,
    tagger_input,
)
from labs_lib.inference_bench.diff import Diff, compare_runs
from labs_lib.inference_bench.exports import read_run
from labs_lib.inference_bench.layers import Counts, Layer, count_layers
from labs_lib.inference_bench.models import MODELS, Benchable, Info, Model, load
from labs_lib.inference_bench.overhead import Overhead, PythonCost, python_cost
from labs_lib.inference_bench.panels import roofline_panel
from labs_lib.inference_bench.pictures import latency_picture, speed_picture
from labs_lib.inference_bench.profile import Profile, TimedLayer, layers
from labs_lib.inference_bench.profile_pictures import roofline_picture, time_picture
from labs_lib.inference_bench.report import write_report
from labs_lib.inference_bench.results import Result, Run
from labs_lib.inference_bench.trace import Trace, trace
from labs_lib.inference_bench.variants import VARIANTS
from labs_lib.roofline import Rate, Roof, roof
