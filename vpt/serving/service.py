"""The bank as an HTTP service: tasks, classification, search by text, health, metrics, and a page to try it on."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException
from torch import Tensor

from vpt import __version__
from vpt.images import decode
from vpt.predict import predictions
from vpt.preprocessing import Preprocessing, transformed
from vpt.serving.bank import PromptBank
from vpt.serving.batching import Batcher
from vpt.serving.gallery import Gallery
from vpt.serving.guard import Mistake, add_guard, check_parameters, page
from vpt.serving.limits import Limits
from vpt.serving.look import look as looked
from vpt.serving.metrics import Metrics
from vpt.serving.tasks import Task

KINDS = ("image/", "application/octet-stream")
MOST_TOP, LONGEST_TEXT = 1000, 1000
STRICT = [Depends(check_parameters)]


def make_app(
    bank: PromptBank, *, limits: Limits | None = None, token: str | None = None, gallery: Gallery | None = None
) -> FastAPI:
    """The service of a bank, whose tasks may be changed while it answers.

    Args:
        bank: that answers.
        limits: what is let in.
        token: that requests have to say ("Authorization: Bearer TOKEN"); without one only this machine's names of
            itself are taken as host.
        gallery: images that are searched by text.
    """
    limits = limits or Limits()
    batcher = Batcher(bank, batch=limits.batch, window=limits.window, waiting=limits.waiting)
    metrics = Metrics(tasks=lambda: len(bank), waiting=batcher.waiting)
    batcher.seen = metrics.batches.observe

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    # The documentation pages of FastAPI take scripts from elsewhere.
    mistakes: dict[int | str, dict[str, Any]] = {422: {"model": Mistake}}
    app = FastAPI(
        title="vpt", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, responses=mistakes
    )
    app.state.batcher, app.state.metrics = batcher, metrics
    add_guard(app, token=token, limits=limits, metrics=metrics)
    app.include_router(page())
    app.include_router(_overview(bank, metrics, searches=gallery is not None))
    app.include_router(_classification(bank, batcher, metrics, limits))
    app.include_router(_search(gallery, batcher))
    return app


def _overview(bank: PromptBank, metrics: Metrics, *, searches: bool) -> APIRouter:
    """What there is, and how it is."""
    router = APIRouter(dependencies=STRICT)

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "tasks": len(bank), "version": __version__}

    @router.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @router.get("/tasks")
    async def tasks() -> dict[str, Any]:
        found = [
            {"name": name, "method": task.model.method.name, "classes": list(task.classes)}
            for name, task in bank.tasks.items()
        ]
        return {"tasks": found, "search": searches}

    return router


def _classification(bank: PromptBank, batcher: Batcher, metrics: Metrics, limits: Limits) -> APIRouter:
    """An image for one task or several."""
    router = APIRouter(dependencies=STRICT)

    @router.post("/classify")
    async def classify(
        request: Request,
        task: list[str] = Query(default=[], description="one or several; with none all of the bank's"),  # noqa: B008
        top: int = Query(default=5, ge=1, le=MOST_TOP),
        look: bool = False,
    ) -> dict[str, Any]:
        chosen = _chosen(bank, task, limits.max_tasks)
        size, images = await asyncio.to_thread(_read, await _body(request, limits.max_bytes), chosen)
        answers = await asyncio.wrap_future(batcher.ask(images, chosen))
        found = []
        for each, image, logits in zip(chosen, images, answers, strict=True):
            metrics.images.labels(each.name).inc()
            seen = await asyncio.wrap_future(batcher.run(partial(looked, each.model, image))) if look else None
            found.append(_answer(each, logits, top) | ({"look": seen} if look else {}))
        return {"image": {"width": size[0], "height": size[1]}, "results": found}

    return router


def _search(gallery: Gallery | None, batcher: Batcher) -> APIRouter:
    """Images by a text."""
    router = APIRouter(dependencies=STRICT)

    @router.get("/search")
    async def search(
        text: str = Query(min_length=1, max_length=LONGEST_TEXT), top: int = Query(default=12, ge=1, le=MOST_TOP)
    ) -> dict[str, Any]:
        if gallery is None:
            raise HTTPException(404, "there is nothing to search: start the service with --images FOLDER.")
        hits = await asyncio.wrap_future(batcher.run(partial(gallery.search, text, top)))
        return {"results": [hit._asdict() for hit in hits]}

    @router.get("/images/{number}", response_class=Response)
    async def image(number: int) -> Response:
        if gallery is None or not 0 <= number < len(gallery.files):
            raise HTTPException(404, "there is no such image.")
        return Response(await asyncio.to_thread(gallery.thumbnail, number), media_type="image/jpeg")

    return router


def _chosen(bank: PromptBank, names: list[str], most: int) -> list[Task]:
    """The tasks of these names, each once, or all.

    Raises:
        HTTPException: there is no such task, or too many are asked at once.
    """
    known = bank.tasks
    names = list(dict.fromkeys(names)) or list(known)
    if len(names) > most:
        raise HTTPException(422, f"{len(names)} tasks are asked at once, and {most} may be: name some.")
    for name in names:
        if name not in known:
            raise HTTPException(404, f"there is no task {name!r}: GET /tasks names them.")
    return [known[name] for name in names]


async def _body(request: Request, most: int) -> bytes:
    """The body of a request, as it comes in; one that is too long is not read to its end.

    Raises:
        HTTPException: it is no image, or too long, or nothing.
    """
    kind = request.headers.get("Content-Type", "")
    if not kind.startswith(KINDS):
        raise HTTPException(415, "send the image file itself, with its Content-Type, such as image/jpeg.")
    too_long = HTTPException(413, f"the image is larger than {most:,} bytes: make it smaller.")
    length = request.headers.get("Content-Length", "0")
    if not length.isdigit() or int(length) > most:
        raise too_long
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise too_long
    if not content:
        raise HTTPException(422, "there is no image: send the image file itself as the body.")
    return bytes(content)


def _read(content: bytes, tasks: list[Task]) -> tuple[tuple[int, int], list[Tensor]]:
    """The size of an image, and it preprocessed for each task; tasks that see it alike are given one tensor."""
    picture = decode(io.BytesIO(content), "the image")
    known: dict[Preprocessing, Tensor] = {}
    for task in tasks:
        if task.preprocessing not in known:
            known[task.preprocessing] = transformed(task.transform, picture, lambda: "the image")
    return picture.size, [known[task.preprocessing] for task in tasks]


def _answer(task: Task, logits: Tensor, top: int) -> dict[str, Any]:
    (found,) = predictions(logits[None], task.classes)
    ranked = list(found.scores.items())[:top]
    return {
        "task": task.name,
        "label": found.label,
        "score": found.score,
        "scores": [{"label": label, "score": score} for label, score in ranked],
    }
