"""Requests that come together, answered together: one thread asks the bank, with all images that wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Lock, Thread
from typing import Any, TypeVar

from torch import Tensor

from vpt.errors import VptError
from vpt.serving.bank import PromptBank
from vpt.serving.tasks import Task

T = TypeVar("T")


class BusyError(VptError):
    """More wait than are let in."""


@dataclass(frozen=True)
class Asked:
    """An image of one request, and what is asked of it.

    Attributes:
        images: preprocessed, one for each task; those that are alike are one object.
        tasks: the bank's.
        answer: to be given: logits (C,) for each task.
    """

    images: Sequence[Tensor]
    tasks: Sequence[Task]
    answer: Future[list[Tensor]] = field(default_factory=Future)


class Batcher:
    """A thread in which the bank works, and a queue of what is asked of it.

    The first request that comes is answered together with those that come within `window` seconds, or that came while
    the batch before was worked on.

    Args:
        bank: that answers.
        batch: images that go through the encoder at once.
        window: seconds that the first of a batch waits for others.
        waiting: requests that may wait; further ones are refused.

    Attributes:
        seen: told how many images each batch has.
    """

    def __init__(
        self,
        bank: PromptBank,
        *,
        batch: int = 32,
        window: float = 0.005,
        waiting: int = 256,
    ) -> None:
        self.bank = bank
        self.batch = batch
        self.window = window
        self.seen: Callable[[int], Any] | None = None
        self._queue: Queue[Any] = Queue(waiting)
        self._closing = False
        self._letting_in = Lock()
        self._thread = Thread(target=self._work, name="vpt-bank", daemon=True)
        self._thread.start()

    def ask(self, images: Sequence[Tensor], tasks: Sequence[Task]) -> Future[list[Tensor]]:
        """Logits (C,) of preprocessed images (3, H, W), each for its task.

        Raises:
            BusyError: too many wait already, or it is closed.
        """
        asked = Asked(images, tasks)
        self._put(asked)
        return asked.answer

    def run(self, call: Callable[[], T]) -> Future[T]:
        """What `call` gives, in the thread of the bank; errors raised as by `ask`."""
        answer: Future[T] = Future()
        self._put((call, answer))
        return answer

    def waiting(self) -> int:
        """How many requests wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        with self._letting_in:
            ends, self._closing = not self._closing, True
        if ends:
            self._queue.put(None)
            self._thread.join()

    def _put(self, asked: Any) -> None:
        # Nothing may come behind the last, where nobody would answer it.
        with self._letting_in:
            if self._closing:
                raise BusyError("the service is shutting down.")
            try:
                self._queue.put_nowait(asked)
            except Full as error:
                raise BusyError(f"{self._queue.maxsize} requests wait already: ask again in a while.") from error

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            together, others, ends = self._with_others(first)
            if together:
                self._answer(together)
            for call, answer in others:
                _settle(answer, call)
            if ends:
                return

    def _with_others(self, first: Any) -> tuple[list[Asked], list[Any], bool]:
        """The first that waits, and those that come in time: requests, calls, and whether the thread is to end."""
        found = [first]
        until = time.monotonic() + self.window
        while sum(len(each.images) for each in found if isinstance(each, Asked)) < self.batch:
            try:
                found.append(self._queue.get(timeout=max(0.0, until - time.monotonic())))
            except Empty:
                break
            if found[-1] is None:
                break
        together = [each for each in found if isinstance(each, Asked)]
        return together, [each for each in found if isinstance(each, tuple)], found[-1] is None

    def _answer(self, together: Sequence[Asked]) -> None:
        # One that nobody waits for any more is not worked on.
        wanted = [asked for asked in together if asked.answer.set_running_or_notify_cancel()]
        images = [image for asked in wanted for image in asked.images]
        tasks = [task for asked in wanted for task in asked.tasks]
        if not images:
            return
        try:
            logits: list[Tensor] = []
            for start in range(0, len(images), self.batch):
                some = slice(start, start + self.batch)
                if self.seen is not None:
                    self.seen(len(images[some]))
                logits += self.bank.logits_of(images[some], tasks[some])
        except Exception as error:
            for asked in wanted:
                asked.answer.set_exception(error)
            return
        found = iter(logits)
        for asked in wanted:
            asked.answer.set_result([next(found).cpu() for _ in asked.images])


def _settle(answer: Future[Any], call: Callable[[], Any]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(call())
    except Exception as error:
        answer.set_exception(error)
