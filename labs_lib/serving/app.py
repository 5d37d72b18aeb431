"""The service: POST /classify takes one image and gives its label, by one of five policies.

What differs between them is the few lines below that answer one decoded image. All else is common: limits, decoding
in a thread, one sentence for each error, a JSON line for each request.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as RoutingError
from starlette.requests import ClientDisconnect

from labs_lib.errors import LabError
from labs_lib.serving.batcher import Batcher, Closed, Full, TooLate
from labs_lib.serving.limits import TYPES, Limits, Refused, decode
from labs_lib.serving.vision import classify, small_vit

GONE = 499  # nginx's number for a client that did not wait; nobody receives it


@dataclass(frozen=True)
class Policy:
    """What a policy is once it runs: how it answers one image, and how many requests it has places for."""

    answer: Callable[[np.ndarray], Awaitable[int | None]]
    places: float = math.inf


@asynccontextmanager
async def per_request(make_model: Callable, batcher: dict, workers: int) -> AsyncIterator[Policy]:
    """Builds the model anew for each request, on the event loop."""

    async def answer(image: np.ndarray) -> int:
        return classify(make_model(), [image])[0]

    yield Policy(answer)


@asynccontextmanager
async def once(make_model: Callable, batcher: dict, workers: int) -> AsyncIterator[Policy]:
    """Builds the model once. An `async def` that computes still holds up the event loop, and with it all others."""
    model = make_model()

    async def answer(image: np.ndarray) -> int:
        return classify(model, [image])[0]

    yield Policy(answer)


@asynccontextmanager
async def pool(make_model: Callable, batcher: dict, workers: int) -> AsyncIterator[Policy]:
    """One image at a time in each of some threads; the event loop stays free."""
    model = make_model()
    with ThreadPoolExecutor(workers) as threads:

        async def answer(image: np.ndarray) -> int:
            return (await asyncio.get_running_loop().run_in_executor(threads, classify, model, [image]))[0]

        yield Policy(answer)


@asynccontextmanager
async def forgetful(make_model: Callable, batcher: dict, workers: int) -> AsyncIterator[Policy]:
    """Hands the image to a thread and does not wait for its label: very fast, and no answer."""
    model = make_model()
    with ThreadPoolExecutor(workers) as threads:

        async def answer(image: np.ndarray) -> None:
            threads.submit(classify, model, [image])

        yield Policy(answer)
        threads.shutdown(cancel_futures=True)


@asynccontextmanager
async def batch(make_model: Callable, batcher: dict, workers: int) -> AsyncIterator[Policy]:
    """Those that arrive while the model is busy share its next pass."""
    model = make_model()
    async with Batcher(lambda images: classify(model, images), **batcher) as running:
        yield Policy(running.submit, running.max_queue + running.max_batch)


POLICIES: dict[str, Callable[..., AbstractAsyncContextManager[Policy]]] = {
    "per-request": per_request,
    "once": once,
    "pool": pool,
    "forgetful": forgetful,
    "batch": batch,
}


def check_policy(policy: str) -> None:
    """LabError where there is no such policy."""
    if policy not in POLICIES:
        raise LabError(f"There is no policy {policy!r}.", "", f"Use one of {', '.join(POLICIES)}.")


def build_app(
    policy: str = "batch",
    make_model: Callable = small_vit,
    limits: Limits | None = None,
    workers: int = 2,
    **batcher: object,
) -> FastAPI:
    """A FastAPI application. `batcher` are arguments of Batcher, such as max_batch=8; `workers` are pool threads.

    Raises LabError where there is no such policy, or the batcher does not take its settings.
    """
    check_policy(policy)
    try:
        Batcher(len, **batcher)
    except (TypeError, ValueError) as error:
        raise LabError("The batcher does not take these settings.", f"{error}.") from None
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(1, "decode") as app.state.decoder:
            async with POLICIES[policy](make_model, batcher, workers) as running:
                app.state.answer, app.state.places = running.answer, min(running.places, limits.in_flight)
                yield

    app = FastAPI(title=f"classify, policy {policy}", lifespan=lifespan)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RoutingError, _routing_error)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "policy": policy}

    @app.post("/classify")
    async def classify_image(request: Request) -> Response:
        file = await _image_of(request, limits)
        image = await asyncio.get_running_loop().run_in_executor(app.state.decoder, decode, file, limits)
        label = await _unless_gone(request, app.state.answer(image))
        return JSONResponse({"label": label})

    app.add_middleware(_Guard, limits=limits)
    return app


def side_by_side(apps: Mapping[str, FastAPI]) -> FastAPI:
    """Several applications in one process, each below /NAME. Those that nobody asks take no time from the others."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:  # a mounted application's own lifespan is not entered by itself
            for one in apps.values():
                await running.enter_async_context(one.router.lifespan_context(one))
            yield

    site = FastAPI(lifespan=lifespan)
    for name, one in apps.items():
        site.mount(f"/{name}", one)
    return site


async def _image_of(request: Request, limits: Limits) -> bytes:
    """The bytes of the one file in field "image"."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused(415, 'Send a form (multipart/form-data) with the image in the field "image".')
    try:
        async with asyncio.timeout(limits.body_s):
            form = await request.form(max_files=1, max_fields=1)
    except TimeoutError:
        raise Refused(408, f"The body has not come within {limits.body_s:g} s.") from None
    except ClientDisconnect:
        raise Refused(GONE, "The client has gone.") from None
    except HTTPException as error:
        raise Refused(400, f"The form can't be read: {error.detail.rstrip('.')}.") from None
    except RoutingError as error:
        raise Refused(400, f"The form can't be read: {str(error.detail).rstrip('.')}.") from None
    except ValueError as error:  # python-multipart's own, which older versions of Starlette let through
        raise Refused(400, f"The form can't be read: {str(error).rstrip('.')}.") from None
    image = form.get("image")
    if not isinstance(image, UploadFile):
        raise Refused(422, 'The form has no file in the field "image".')
    if image.content_type not in TYPES:
        raise Refused(415, f"The image's content type is not one of {', '.join(TYPES)}.")
    return await image.read()


async def _unless_gone(request: Request, answer: Awaitable[int | None]) -> int | None:
    """The answer; where the client hangs up first, its work is cancelled and leaves the queue."""
    work = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(request.receive())  # the body is read: the next message is a hang-up
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Refused(GONE, "The client has gone.")
        return work.result()
    except Full:
        raise Refused(503, "The service is full; try again soon.", retry_after=1) from None
    except Closed:
        raise Refused(503, "The service is stopping.", retry_after=5) from None
    except TooLate:
        raise Refused(504, "The answer took too long.") from None
    except Refused:
        raise
    except Exception as error:  # the model's own; its text may hold what was sent
        raise Refused(500, f"The model failed with {type(error).__name__}.") from None
    finally:
        work.cancel()
        gone.cancel()


async def _refused(request: Request, error: Refused) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 408:  # what else comes of that body can't be told from a request
        headers["Connection"] = "close"
    return JSONResponse({"error": error.sentence}, error.status, headers)


async def _routing_error(request: Request, error: RoutingError) -> JSONResponse:
    return JSONResponse({"error": f"{error.detail}. POST an image to /classify."}, error.status_code, error.headers)


class _Guard:
    """Around the application: bounds bodies and the number of requests, and logs each in one JSON line."""

    def __init__(self, app: Callable, limits: Limits) -> None:
        self.app, self.limits, self.inside = app, limits, 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, size, status = time.perf_counter(), 0, None

        async def counted() -> dict:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.limits.body_bytes:
                raise _TooLarge
            return message

        async def noted(message: dict) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.inside += 1
        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > self.limits.body_bytes:
                raise _TooLarge
            # Before it is read and decoded: a refusal must cost little, or those who are let in pay for it.
            if self.inside > scope["app"].state.places and not scope["path"].endswith("/health"):
                full = Refused(503, "The service is full; try again soon.", retry_after=1)
                await (await _refused(None, full))(scope, receive, noted)
            else:
                await self.app(scope, counted, noted)
        except _TooLarge:
            large = Refused(413, f"The request is larger than {self.limits.body_bytes:,} bytes.")
            await (await _refused(None, large))(scope, receive, noted)
        finally:
            self.inside -= 1
            took = round(1000 * (time.perf_counter() - start), 1)
            log("request", method=scope["method"], path=scope["path"], status=status, bytes=size, ms=took)


class _TooLarge(BaseException):
    """Not an Exception, so that no handler between takes it for an error of its own."""


def log(event: str, **facts: object) -> None:
    """One JSON line on stderr. Never what a client sent, but the path and the sizes."""
    print(json.dumps({"time": round(time.time(), 3), "event": event, **facts}), file=sys.stderr, flush=True)
