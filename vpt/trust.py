"""Whether Python code that comes with a model may run: not without the user's own word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HOW = (
    "if you trust what it runs, say --trust-remote-code, in Python vpt.load(…, trust_remote_code=True) or "
    "vpt.create(…, backbone_options={'trust_remote_code': True})"
)
_TRUSTED: ContextVar[bool] = ContextVar("TRUSTED", default=False)
_ELSEWHERE: ContextVar[bool] = ContextVar("ELSEWHERE", default=False)


def trusted() -> bool:
    """Whether code may run that comes with a model, its tokenizer or its image processor."""
    return _TRUSTED.get()


@contextmanager
def trusting(word: bool) -> Iterator[None]:
    """Let it run in this context where the user has said so; no config, saved model or other file can say it."""
    before = _TRUSTED.set(word or trusted())
    try:
        yield
    finally:
        _TRUSTED.reset(before)


@contextmanager
def from_elsewhere() -> Iterator[None]:
    """What is read in this context may be someone else's, such as the config of a run: no module is imported for it."""
    before = _ELSEWHERE.set(True)
    try:
        yield
    finally:
        _ELSEWHERE.reset(before)


def may_import() -> bool:
    """Whether a module may be imported because what is read names it."""
    return trusted() or not _ELSEWHERE.get()


def remedy(error: BaseException, otherwise: str) -> str:
    """What to do about an error of a library: the word that it lacks, where it is that, or something else."""
    return HOW if "trust_remote_code" in str(error) else otherwise
