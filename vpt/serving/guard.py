"""Who is let in to a service, how long an answer may take, and how mistakes are told: around all of its routes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from vpt.errors import VptError, did_you_mean
from vpt.serving.batching import BusyError
from vpt.serving.limits import LOCAL, Limits, is_token
from vpt.serving.metrics import Metrics

PAGE = Path(__file__).parent / "page"
PAGES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# Shown to anybody who reaches the service: the page itself, which asks for the token, and whether it is there.
OPEN = (*PAGES, "/health")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


# A page of another site cannot reach the service by a name of its own that leads here.
OWN_HOST = re.compile(rf"({'|'.join(map(re.escape, LOCAL))})(:\d+)?", re.IGNORECASE)
LONGEST = 100


class Mistake(BaseModel):
    """What is answered in place of what was asked for: one sentence."""

    error: str


def check_parameters(request: Request) -> None:
    """Nothing, if the route knows every parameter of the query: one that is misspelt would be passed over.

    Raises:
        VptError: it does not know one.
    """
    known = [each.alias for each in request.scope["route"].dependant.query_params]
    odd = next((name for name in request.query_params if name not in known), None)
    if odd is not None:
        raise VptError(f"there is no parameter {odd!r}: {did_you_mean(odd, known) if known else 'leave it out.'}")


Answer = Callable[[Request], Awaitable[Response]]


def add_guard(app: FastAPI, *, token: str | None, limits: Limits, metrics: Metrics) -> None:
    """Put the check of tokens, the time limit, safe headers and counts around every route.

    Args:
        app: the service.
        token: that requests have to say; without one only this machine's names of itself are taken as host.
        limits: of which the seconds are kept.
        metrics: that count.
    """

    @app.middleware("http")
    async def guard(request: Request, answer: Answer) -> Response:
        started = time.perf_counter()
        if token is None and not OWN_HOST.fullmatch(request.headers.get("Host", "")):
            sentence = "this is not the host that was asked for: say localhost, or start the service with a token."
            response: Response = JSONResponse({"error": sentence}, 400)
        elif _may(request, token):
            response = await _in_time(answer, request, limits.seconds)
        else:
            response = JSONResponse({"error": "say the token: Authorization: Bearer …"}, 401)
            response.headers["WWW-Authenticate"] = "Bearer"
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        route = getattr(request.scope.get("route"), "path", "other")
        metrics.requests.labels(route, response.status_code).inc()
        metrics.seconds.labels(route).observe(time.perf_counter() - started)
        return response

    app.add_exception_handler(VptError, _mistake)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _wrong)


def page() -> APIRouter:
    """The page to try the service on, which loads nothing but its own files."""
    router = APIRouter(include_in_schema=False)
    for path, (name, kind) in PAGES.items():
        router.get(path)(_file((PAGE / name).read_bytes(), kind))
    return router


def _file(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(content, media_type=kind)

    return file


def _may(request: Request, token: str | None) -> bool:
    return token is None or request.url.path in OPEN or is_token(request.headers.get("Authorization"), token)


async def _in_time(answer: Answer, request: Request, seconds: float) -> Response:
    try:
        return await asyncio.wait_for(answer(request), seconds)
    except TimeoutError:
        return JSONResponse({"error": f"this took longer than {seconds:g} s."}, 504)


async def _mistake(_: Request, error: Exception) -> Response:
    busy = isinstance(error, BusyError)
    return JSONResponse({"error": str(error)}, 503 if busy else 422, {"Retry-After": "1"} if busy else None)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = error.detail
    if told == HTTPStatus(error.status_code).phrase:
        told = f"there is no {request.method} {request.url.path[:LONGEST]}: GET /openapi.json says what there is."
    return JSONResponse({"error": told}, error.status_code, error.headers)


async def _wrong(_: Request, error: Exception) -> Response:
    """A parameter that is missing, or of no use."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name, reason = first["loc"][1], first["msg"]
    if first["type"] == "missing":
        return JSONResponse({"error": f"{name} is missing: say it, as ?{name}=…"}, 422)
    given = repr(str(first["input"])[:LONGEST])
    return JSONResponse({"error": f"{name}={given} will not do: {reason[:1].lower()}{reason[1:]}."}, 422)
