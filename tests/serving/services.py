"""A service of small models in a thread, and requests to it."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from PIL import Image

import vpt
from vpt.images import limit_pixels
from vpt.serving.server import Server, make_server

DIGITS = ["zero", "one", "two"]


def small_bank(folder: Path) -> vpt.PromptBank:
    """Two tasks over the embedded image model."""
    bank = vpt.PromptBank("vpt/vit-nano", device="cpu")
    for name, method, classes in (("digits", "vpt-deep", DIGITS), ("pets", "linear", ["cat", "dog"])):
        vpt.create("vpt/vit-nano", method, classes=classes).save_pretrained(folder / name)
        bank.add(name, folder / name)
    return bank


@contextmanager
def running(bank: vpt.PromptBank, **options: Any) -> Iterator[Server]:
    """A server that answers, and is shut down."""
    before = Image.MAX_IMAGE_PIXELS
    server = make_server(bank, port=0, **options)
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join(60)
        limit_pixels(before or 1)
    assert not thread.is_alive()


def picture(width: int = 40, height: int = 30, kind: str = "PNG", seed: int = 0) -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def ask(
    server: Server, path: str, body: bytes | None = None, *, headers: dict[str, str] | None = None, **query: Any
) -> tuple[int, Any]:
    """Status and answer of a request; an image is sent as one."""
    connection = HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    kind = {"Content-Type": "image/png"} if body is not None else {}
    target = f"{path}?{urlencode(query, doseq=True)}" if query else path
    try:
        connection.request("GET" if body is None else "POST", target, body, {**kind, **(headers or {})})
        response = connection.getresponse()
        content = response.read()
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return response.status, json.loads(content) if is_json else content
    finally:
        connection.close()
