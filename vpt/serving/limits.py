"""What a service lets in, and from whom."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

from vpt.errors import VptError

LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class Limits:
    """Limits of a service.

    Attributes:
        max_bytes: of the body of a request.
        max_pixels: of an image.
        max_tasks: that one request may ask.
        seconds: from the beginning of a request to its answer.
        waiting: requests that may wait for the encoder; further ones are refused.
        batch: images that go through the encoder at once.
        window: seconds that a request waits for others to go with it.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_tasks: int = 64
    seconds: float = 30.0
    waiting: int = 256
    batch: int = 32
    window: float = 0.005


def is_local(host: str) -> bool:
    """Whether only this machine reaches a service that is bound to `host`."""
    if host in LOCAL:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_reach(host: str, token: str | None) -> None:
    """Nothing, if others reach the service with a token alone.

    Raises:
        VptError: they would without one, or it is easily guessed.
    """
    if token is None and not is_local(host):
        raise VptError(
            f"--host {host} lets other machines in: give a token, which they have to say, as VPT_TOKEN in the "
            "environment or in a file as --token-file."
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise VptError(f"a token of {len(token)} letters is easily guessed: give {SHORTEST_TOKEN} or more.")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise VptError("a token is of ASCII letters, digits and signs, without spaces: give another.")


def is_token(said: str | None, token: str) -> bool:
    """Whether the header Authorization says the token, compared in a time that tells nothing of it."""
    kind, _, value = (said or "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(value.strip().encode(), token.encode())
