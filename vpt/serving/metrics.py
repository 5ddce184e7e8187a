"""What Prometheus reads of a service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts and times of one service.

    Args:
        tasks: how many the bank has.
        waiting: how many requests wait.
    """

    def __init__(self, *, tasks: Callable[[], float], waiting: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("vpt_requests", "Answered requests.", ["path", "status"], **own)
        self.seconds = Histogram("vpt_request_seconds", "From request to answer.", ["path"], buckets=SECONDS, **own)
        self.images = Counter("vpt_images", "Images that were classified.", ["task"], **own)
        self.batches = Histogram("vpt_batch_images", "Images and tasks in a batch.", buckets=SIZES, **own)
        Gauge("vpt_tasks", "Tasks of the bank.", **own).set_function(tasks)
        Gauge("vpt_waiting_requests", "Requests that wait.", **own).set_function(waiting)

    def text(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self.registry)
