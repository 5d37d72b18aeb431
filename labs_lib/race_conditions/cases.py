"""Four races of machine-learning code, each with its mended twin, ready to explore.

`python -m labs_lib explore labs_lib.race_conditions.cases:lazy_model` finds the first one.
"""

from __future__ import annotations

import threading
from collections import deque

from labs_lib.race_conditions.explorer import Case

# --- a model that is loaded by the first request ---------------------------------------------------------


class LazyModel:
    """Check, then act: two requests that both find no model both load one, and memory holds it twice."""

    def __init__(self) -> None:
        self.model, self.loads = None, 0

    def load(self) -> list[float]:
        self.loads += 1
        return [0.5, 0.25]

    def predict(self) -> float:
        if self.model is None:
            self.model = self.load()
        return sum(self.model)


class LazyModelOnce(LazyModel):
    """The check under the lock decides; the one before it saves the lock once the model is there."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def predict(self) -> float:
        if self.model is None:
            with self.lock:
                if self.model is None:
                    self.model = self.load()
        return sum(self.model)


def loaded_once(service: LazyModel) -> str | bool:
    return service.loads == 1 or f"the model was loaded {service.loads} times"


lazy_model, lazy_model_mended = (
    Case(service, [lambda service: service.predict()] * 2, loaded_once) for service in (LazyModel, LazyModelOnce)
)

# --- a running mean of the loss --------------------------------------------------------------------------


class Metrics:
    """Lost update: two callbacks read the same total, and the loss of one of them is gone."""

    def __init__(self) -> None:
        self.total, self.count = 0, 0

    def update(self, loss: int) -> None:
        self.total += loss
        self.count += 1


class LockedMetrics(Metrics):
    """Both numbers change under one lock, and so belong together for whoever reads them under it."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def update(self, loss: int) -> None:
        with self.lock:
            super().update(loss)


def mean_is_3(metrics: Metrics) -> str | bool:
    right = (metrics.total, metrics.count) == (6, 2)
    return right or f"the losses 2 and 4 make a total of {metrics.total} over {metrics.count} updates"


metrics, metrics_mended = (
    Case(kind, [lambda metrics: metrics.update(2), lambda metrics: metrics.update(4)], mean_is_3)
    for kind in (Metrics, LockedMetrics)
)

# --- a batcher's queue -----------------------------------------------------------------------------------


class Batcher:
    """Wait without a loop: both workers are woken by one request, and the second one finds nothing."""

    def __init__(self) -> None:
        self.requests, self.ready = deque(), threading.Condition()

    def submit(self, request: str) -> None:
        with self.ready:
            self.requests.append(request)
            self.ready.notify_all()

    def next_request(self) -> str:
        with self.ready:
            if not self.requests:
                self.ready.wait()
            return self.requests.popleft()


class LoopingBatcher(Batcher):
    """To be woken is a hint, not a promise: look again, and wait again."""

    def next_request(self) -> str:
        with self.ready:
            while not self.requests:
                self.ready.wait()
            return self.requests.popleft()


def work(batcher: Batcher) -> None:
    batcher.next_request()


def submit_two(batcher: Batcher) -> None:
    batcher.submit("one")
    batcher.submit("two")


batcher, batcher_mended = (
    Case(kind, [work, work, submit_two], lambda batcher: not batcher.requests or "a request was forgotten")
    for kind in (Batcher, LoopingBatcher)
)

# --- a cache that drops its oldest entry -----------------------------------------------------------------


class Cache:
    """Check, then act: the entry was there, and another thread has dropped it since."""

    def __init__(self, size: int = 1) -> None:
        self.size, self.entries = size, {"cat": "embedding of cat"}

    def get(self, key: str) -> str:
        if key in self.entries:
            return self.entries[key]
        if len(self.entries) >= self.size:
            self.entries.pop(next(iter(self.entries)))
        self.entries[key] = f"embedding of {key}"
        return self.entries[key]


class LockedCache(Cache):
    """Look up, drop and store under one lock. A slow embedding would be computed outside of it."""

    def __init__(self, size: int = 1) -> None:
        super().__init__(size)
        self.lock = threading.Lock()

    def get(self, key: str) -> str:
        with self.lock:
            return super().get(key)


cache, cache_mended = (
    Case(
        kind,
        [lambda cache: cache.get("cat"), lambda cache: cache.get("dog")],
        lambda cache: len(cache.entries) <= cache.size or "the cache holds more than it may",
    )
    for kind in (Cache, LockedCache)
)

PAIRS = {
    "lazy model": (lazy_model, lazy_model_mended),
    "metrics": (metrics, metrics_mended),
    "batcher": (batcher, batcher_mended),
    "cache": (cache, cache_mended),
}
