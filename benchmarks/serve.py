"""The service under load on loopback: requests a second, their times, what is lost, and memory, for 1 to 64 clients."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Barrier, Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import torch
from PIL import Image

import vpt
from benchmarks import report
from benchmarks.measure import Setting
from vpt.report.tables import markdown

CLIENTS = (1, 8, 64)
TASKS = 8
SIDE = 224
IMAGES = 16
# What a service may have more after thousands of requests than after the first few hundred, in MB.
FLAT = 32


def main(out: Path, *, clients: Sequence[int] = (), seconds: float = 10.0, quick: bool = False) -> int:
    """Measure, print and write serve.json and serve.md; 1 if an answer was lost or wrong, or memory is not flat."""
    rows: list[dict[str, Any]] = []
    counts = clients or ((1, 2) if quick else CLIENTS)
    with TemporaryDirectory() as folder:
        _save(Path(folder))
        with serving(Path(folder)) as (url, process):
            contents = [_image(seed) for seed in range(IMAGES)]
            expected = {seed: _ask(url, contents[seed], seed)[1] for seed in range(IMAGES)}
            # Buffers and threads are made as soon as so many ask at once.
            under_load(url, process, contents, expected, count=max(counts), seconds=seconds / 4)
            begun = process.memory_info().rss
            for count in counts:
                rows.append(under_load(url, process, contents, expected, count=count, seconds=seconds))
                print(markdown(rows[-1:]), file=sys.stderr, flush=True)
            grew = round((process.memory_info().rss - begun) / 1e6, 1)
    requests = sum(row["requests"] for row in rows)
    memory = {"requests": requests, "MB before": round(begun / 1e6, 1), "grew by MB": grew, "flat": grew <= FLAT}
    out.mkdir(parents=True, exist_ok=True)
    about = report.about(Setting(quick=quick))
    (out / "serve.json").write_text(
        json.dumps({"about": about, "rows": rows, "memory": memory}, indent=2) + "\n", encoding="utf-8"
    )
    text = f"`{about['command']}`, {about['machine']}, {about['cores']} cores\n\n{markdown(rows)}\n{markdown([memory])}"
    (out / "serve.md").write_text(text, encoding="utf-8")
    print(text)
    return int(not memory["flat"] or any(row["lost"] or row["wrong"] for row in rows))


def under_load(
    url: str,
    process: psutil.Process,
    contents: Sequence[bytes],
    expected: dict[int, str],
    *,
    count: int,
    seconds: float,
) -> dict[str, Any]:
    """So many clients, each asking again as soon as it has its answer."""
    times: list[float] = []
    lost: list[str] = []
    wrong: list[int] = []
    begin = Barrier(count + 1)
    memory = process.memory_info().rss

    def client(number: int) -> None:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
        begin.wait()
        seed = number
        while time.perf_counter() < until:
            seed = (seed + 1) % IMAGES
            started = time.perf_counter()
            try:
                status, label = _ask(url, contents[seed], seed, connection)
            except OSError as error:
                lost.append(str(error))
                connection.close()
                continue
            times.append(time.perf_counter() - started)
            if status != 200:
                lost.append(str(status))
            elif label != expected[seed]:
                wrong.append(seed)
        connection.close()

    threads = [Thread(target=client, args=(number,)) for number in range(count)]
    until = time.perf_counter() + seconds
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    until = started + seconds
    begin.wait()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    ordered = sorted(times)
    return {
        "clients": count,
        "requests": len(times),
        "requests a second": round(len(times) / took, 1),
        "p50 ms": round(1000 * median(ordered), 1),
        "p99 ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
        "lost": len(lost),
        "wrong": len(wrong),
        "memory MB": round(process.memory_info().rss / 1e6, 1),
        "grew by MB": round((process.memory_info().rss - memory) / 1e6, 1),
    }


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`vpt serve` of a folder in a process of its own, and where it is."""
    command = [sys.executable, "-m", "vpt", "serve", str(folder), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        found = None
        for line in process.stderr:
            found = re.search(r"serving at (http://\S+)", line)
            if found:
                break
        if found is None:
            raise RuntimeError("the service did not begin")
        try:
            yield found[1], psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


def _save(folder: Path) -> None:
    for index in range(TASKS):
        torch.manual_seed(index)
        model = vpt.create("vpt/vit-nano", "vpt-deep", num_tokens=5 + index, num_classes=10)
        model.save_pretrained(folder / f"task{index}")


def _image(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((SIDE, SIDE)).save(out, "JPEG")
    return out.getvalue()


def _ask(url: str, content: bytes, seed: int, connection: HTTPConnection | None = None) -> tuple[int, str]:
    """Status and label of an image for its task."""
    own = connection or HTTPConnection(urlsplit(url).netloc, timeout=120)
    own.request("POST", f"/classify?task=task{seed % TASKS}&top=1", content, {"Content-Type": "image/jpeg"})
    response = own.getresponse()
    answer = json.loads(response.read())
    if connection is None:
        own.close()
    return response.status, answer["results"][0]["label"] if response.status == 200 else ""
