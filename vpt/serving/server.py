"""The process that serves: bound to this machine unless told otherwise; a signal ends it without losing a request."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket
from types import FrameType
from typing import Any

import uvicorn

from vpt.errors import VptError
from vpt.images import limit_pixels
from vpt.report.notes import tell
from vpt.serving.bank import PromptBank
from vpt.serving.gallery import Gallery
from vpt.serving.limits import Limits, check_reach
from vpt.serving.service import make_app

# Seconds that requests which are being answered have, when the service is told to end.
GRACE = 20


class Server(uvicorn.Server):
    """One that is ended by a signal as a success, as what starts services expects."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the server, and are not raised again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, self._told) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _told(self, kind: int, frame: FrameType | None) -> None:
        self.handle_exit(kind, frame)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Say where it is, once it is there."""
        await super().startup(sockets)
        if self.started:
            tell(f"serving at {self.url} (Ctrl-C ends it)")

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(
    bank: PromptBank,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    gallery: Gallery | None = None,
) -> Server:
    """A server, which `run` starts; arguments and errors are those of `serve`."""
    check_reach(host, token)
    limits = limits or Limits()
    limit_pixels(limits.max_pixels)
    app = make_app(bank, limits=limits, token=token, gallery=gallery)
    config = uvicorn.Config(
        app,
        host=host.strip("[]"),
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=64_000,
    )
    return Server(config)


def serve(bank: PromptBank, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM; what is being answered then is answered.

    Args:
        bank: that answers.
        options: "host" to bind to (127.0.0.1; other machines reach it with a token alone), "port" (8000; 0 takes one
            that is free), "token" that requests have to say, "limits" (`Limits`), and the "gallery" that is searched.

    Raises:
        VptError: others would be let in without a token, or the address cannot be had.
    """
    server = make_server(bank, **options)
    try:
        server.run()
    except SystemExit as error:
        # uvicorn's way of saying that it has not begun.
        if server.started:
            raise
        where = f"port {server.config.port} of {server.config.host}"
        raise VptError(f"{where} cannot be had: another service has it, or you may not: say --port.") from error
    tell("ended.")
