"""serve: many saved models as one HTTP service."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from vpt.commands.arguments import add, add_run, not_negative, positive, set_up
from vpt.errors import VptError


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "serve", serve, "answer over HTTP with what was learned: many tasks over one backbone")
    add_run(sub, "a folder of runs or saved models, one for each task; or one of them, or a repository of the hub")
    sub.add_argument("--host", default="127.0.0.1", help="bind to it; others than this machine need a token")
    sub.add_argument("--port", type=not_negative, default=8000, help="default: %(default)s; 0 takes one that is free")
    text = "hold a token that requests have to say; or VPT_TOKEN in the environment"
    sub.add_argument("--token-file", metavar="FILE", help=text)
    sub.add_argument("--images", metavar="FOLDER", help="images that can be searched by text (image-text backbones)")
    sub.add_argument("--max-bytes", type=positive, default=20_000_000, metavar="N", help="of an image file")
    sub.add_argument("--seconds", type=positive, default=30, metavar="N", help="a request may take (default: 30)")
    sub.add_argument("--batch", type=positive, default=32, metavar="N", help="images at once (default: 32)")
    text = "that the first request of a batch waits for others (default: 5)"
    sub.add_argument("--window", type=not_negative, default=5, metavar="MS", help=text)


def serve(given: argparse.Namespace) -> None:
    """`vpt serve`."""
    from vpt.extras import needed

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        needed(module, extra="serve", what="vpt serve")
    from vpt.serving.limits import Limits, check_reach

    token = _token(given.token_file)
    # Before models are loaded.
    check_reach(given.host, token)
    set_up(given)
    from vpt.report.notes import tell
    from vpt.serving.bank import PromptBank
    from vpt.serving.following import Following
    from vpt.serving.gallery import Gallery
    from vpt.serving.server import serve as run

    limits = Limits(
        max_bytes=given.max_bytes,
        max_pixels=given.max_pixels or Limits.max_pixels,
        seconds=given.seconds,
        batch=given.batch,
        window=given.window / 1000,
    )
    bank = PromptBank.open(given.run, weights=given.weights, device=given.device)
    tell(f"{len(bank)} tasks over {bank.backbone.name or 'one backbone'}: {', '.join(bank)}")
    gallery = Gallery(bank, given.images) if given.images else None
    following = Following(bank, given.run)
    following.begin()
    try:
        run(bank, host=given.host, port=given.port, token=token, limits=limits, gallery=gallery)
    finally:
        following.end()


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("VPT_TOKEN") or None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise VptError(f"the token in {file} cannot be read ({error}): correct the path.") from error
