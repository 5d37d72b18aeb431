"""The service without a socket: right answers from every policy, and one sentence for each thing that is wrong."""

import asyncio
import io
import json
import struct
import threading
import zlib

import httpx
import pytest
import torch
from PIL import Image

import labs_lib.serving as serving
import labs_lib.serving.app as app_module
from labs_lib.errors import LabError

FORM = "image.jpg"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return serving.small_vit()


def talk(app, conversation):
    """Runs `conversation(client)` against the application, within its lifespan."""

    async def main():
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await conversation(client)

    return asyncio.run(main())


def form(file, kind="image/jpeg", field="image"):
    return {"files": {field: (FORM, file, kind)}}


def post(app, **options):
    return talk(app, lambda client: client.post("/classify", **options))


@pytest.mark.parametrize("policy", ["per-request", "once", "pool", "batch"])
def test_each_policy_gives_each_client_its_own_answer(policy, model):
    files = serving.photos(8)

    async def all_at_once(client):
        answers = await asyncio.gather(*(client.post("/classify", **form(file)) for file in files))
        return [answer.json()["label"] for answer in answers]

    app = serving.build_app(policy, lambda: model)
    assert talk(app, all_at_once) == serving.right_answers(model, files)


def test_the_forgetful_one_answers_nothing(model):
    answer = post(serving.build_app("forgetful", lambda: model), **form(serving.photos(1)[0]))
    assert (answer.status_code, answer.json()) == (200, {"label": None})


def bomb():
    """A PNG of some dozen bytes whose header promises 50000 x 50000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    start = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + start + struct.pack(">I", 9) + b"IDAT"


def large_png():
    file = io.BytesIO()
    Image.new("1", (3000, 3000)).save(file, "PNG")
    return file.getvalue()


PHOTO = serving.photos(1)[0]


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (form(b"not an image"), 422, "no JPEG or PNG"),
        (form(b""), 422, "no JPEG or PNG"),
        (form(PHOTO[: len(PHOTO) // 2]), 422, "corrupt or cut short"),
        (form(bomb(), "image/png"), 413, "pixels"),
        (form(large_png(), "image/png"), 413, "3000 x 3000 pixels"),
        (form(PHOTO, "text/plain"), 415, "content type"),
        (form(PHOTO, field="photo"), 422, 'no file in the field "image"'),
        ({"data": {"image": "text"}}, 415, "multipart/form-data"),
        ({"content": PHOTO, "headers": {"content-type": "image/jpeg"}}, 415, "multipart/form-data"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "can't be read"),
        (form(PHOTO + bytes(1 << 20)), 413, "larger than"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_and_not_logged(options, status, says, model, capsys):
    answer = post(serving.build_app("once", lambda: model), **options)
    assert answer.status_code == status
    assert says in answer.json()["error"]
    assert answer.json()["error"].count(". ") == 0
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert set(logged) == {"time", "event", "method", "path", "status", "bytes", "ms"}
    assert logged["status"] == status


def test_a_body_without_a_declared_length_is_cut_off_too(model):
    async def endless():
        while True:
            yield bytes(1 << 16)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = post(serving.build_app("once", lambda: model), content=endless(), headers=kind)
    assert answer.status_code in (400, 413)


def test_who_finds_no_place_is_refused_before_anything_is_read(model, monkeypatch):
    """One in the model and one that waits: the other eight cost no decoding, and /health still answers."""
    decoded, entered, go = [], threading.Event(), threading.Event()
    monkeypatch.setattr(app_module, "decode", lambda file, limits: decoded.append(file) or serving.decode(file))

    def slow(images):
        entered.set()
        assert go.wait(20)
        return model(images)

    async def crowd(client):
        posts = [asyncio.create_task(client.post("/classify", **form(PHOTO)))]
        assert await asyncio.to_thread(entered.wait, 20)
        posts += [asyncio.create_task(client.post("/classify", **form(PHOTO))) for _ in range(9)]
        while sum(post.done() for post in posts) < 8:
            await asyncio.sleep(0.01)
        assert (await client.get("/health")).status_code == 200
        go.set()
        return await asyncio.gather(*posts)

    answers = talk(serving.build_app("batch", lambda: slow, max_batch=1, max_queue=1), crowd)
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * 8
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 503)
    assert len(decoded) == 2


def test_other_paths_and_methods(model):
    app = serving.build_app("once", lambda: model)
    assert talk(app, lambda client: client.get("/health")).json() == {"status": "ok", "policy": "once"}
    assert talk(app, lambda client: client.get("/")).status_code == 404
    assert talk(app, lambda client: client.get("/classify")).status_code == 405


def test_there_is_no_such_policy():
    with pytest.raises(LabError, match="no policy 'magic'"):
        serving.build_app("magic")


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"max_batch": 0}, "at least 1"), ({"max_wait_s": float("nan")}, "at least 0"), ({"max_bath": 1}, "max_bath")],
)
def test_settings_that_no_batcher_takes(settings, says):
    with pytest.raises(LabError, match=says):
        serving.build_app("batch", **settings)
