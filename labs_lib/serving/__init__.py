"""Serving: what a request waits for, and what batching buys at p99.

A dynamic batcher for any FastAPI application, the service it stands in, an open-loop load generator that checks every
answer, and the same policies on a virtual clock.
"""

from labs_lib.percentiles import percentile
from labs_lib.serving.app import build_app
from labs_lib.serving.batcher import Batcher, Closed, Counts, Full, TooLate
from labs_lib.serving.limits import Limits, Refused, decode
from labs_lib.serving.load import closed_loop, load_test
from labs_lib.serving.panels import serving_panel
from labs_lib.serving.photos import photos
from labs_lib.serving.pictures import knee, load_picture, omission_picture, queue_picture
from labs_lib.serving.results import LoadResult, Outcome, Quantile, percentile_interval
from labs_lib.serving.server import Server, serve
from labs_lib.serving.simulate import POLICIES, Simulation, poisson_arrivals, simulate
from labs_lib.serving.vision import classify, measure_service, right_answers, small_vit
