"""Figures as JSON, as Markdown tables and as a plot, each with the command and the machine they are from."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Setting
from vpt.report.tables import markdown
from vpt.saving import versions

Rows = Sequence[Mapping[str, Any]]


def about(setting: Setting) -> dict[str, Any]:
    """What figures depend on besides the code."""
    return {
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": torch.cuda.get_device_name() if setting.device == "cuda" else processor(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "clock": setting.clock,
        "setting": asdict(setting),
        "versions": versions(),
    }


def processor() -> str:
    """The CPU's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def write(folder: Path, facts: Mapping[str, Any], parts: Mapping[str, Rows]) -> None:
    """benchmarks.json and benchmarks.md in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {"about": facts, "targets": targets(parts), "parts": parts}
    text = json.dumps(everything, indent=2, ensure_ascii=False) + "\n"
    (folder / "benchmarks.json").write_text(text, encoding="utf-8")
    (folder / "benchmarks.md").write_text(document(facts, parts), encoding="utf-8")


def document(facts: Mapping[str, Any], parts: Mapping[str, Rows]) -> str:
    """All tables, and above them where they are from."""
    named = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    setting = facts["setting"]
    machine = f"{facts['machine']}, {facts['cores']} cores, {setting['threads']} in use; {facts['clock']}; {named}."
    form = f"{setting['dtype']}, {'compiled' if setting['compiled'] else 'not compiled'}"
    lines = [
        f"    {facts['command']}\n\n{machine}\n{form}. Ratios are medians of repeats, measured in turns in "
        "one process, with the lowest and highest one. ✓ and ✗ say whether a target is met.\n"
    ]
    aims = targets(parts)
    if aims:
        shown = [aim | {"met": "✓" if aim["met"] else "✗"} for aim in aims]
        lines.append(f"\n## targets\n\n{sum(aim['met'] for aim in aims)} of {len(aims)} are met.\n\n{markdown(shown)}")
    for part, rows in parts.items():
        lines.append(f"\n## {part}\n")
        for alike in grouped(rows):
            lines += [f"\n{markdown([row(one) for one in alike])}" for row in (ratio_row, amount_row)]
            lines += [f"\n{one['note']}\n" for one in alike if one["note"]]
    return "".join(lines)


def targets(parts: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """Every ratio that has a target, with what was measured."""
    return [
        {
            "part": part,
            "case": ", ".join(str(value) for value in row["facts"].values()),
            "ratio": name,
            "target": ratio["target"],
            "measured": round(ratio["median"], 3),
            "met": ratio["met"],
        }
        for part, rows in parts.items()
        for row in rows
        for name, ratio in row["ratios"].items()
        if "target" in ratio
    ]


def grouped(rows: Rows) -> list[Rows]:
    """Rows with the same columns together."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((*row["facts"], *row["ratios"], *row["seconds"]), []).append(row)
    return list(groups.values())


def ratio_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A case's ratios as a row of a table."""
    cells = {name: ratio_cell(ratio) for name, ratio in row["ratios"].items()}
    return dict(row["facts"]) | cells | {"repeats": row["repeats"]}


def amount_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A case's speeds, or times where it is about one thing, and saved bytes as a row of a table."""
    saved = {f"{name}, saved (MB)": round(value / 1e6, 1) for name, value in row["saved_bytes"].items()}
    speeds = {f"{name} (images/s)": round(value, 1) for name, value in row["items_per_second"].items()}
    times = {f"{name} (s)": value["median"] for name, value in row["seconds"].items()}
    return dict(row["facts"]) | (speeds if row["items"] > 1 else times) | saved


def ratio_cell(ratio: Mapping[str, Any]) -> str:
    """A ratio with its spread and, where it has one, its target."""
    shown = f"{ratio['median']:.2f}"
    if ratio["low"] != ratio["high"]:
        shown += f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
    return shown if "target" not in ratio else f"{shown} {'✓' if ratio['met'] else '✗'} {ratio['target']}"


def told(row: Mapping[str, Any]) -> str:
    """A case in one line, for those who wait."""
    facts = ", ".join(f"{value}" for value in row["facts"].values())
    return f"{facts}: " + ", ".join(f"{name} {ratio_cell(ratio)}" for name, ratio in row["ratios"].items())


def plot(folder: Path, part: str, rows: Rows) -> Path | None:
    """The part's ratios over its axis, a panel for each combination of the other facts; None if it has no axis."""
    module = import_module(f"benchmarks.{part}")
    if not hasattr(module, "AXIS"):
        return None
    from matplotlib.figure import Figure

    panels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        title = ", ".join(str(value) for name, value in row["facts"].items() if name not in (module.AXIS, "batch"))
        if any(name in row["ratios"] for name in module.LINES):
            panels.setdefault(title, []).append(row)
    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    for axes, (title, points) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for name in module.LINES:
            known = [row for row in points if name in row["ratios"]]
            x, y = [row["facts"][module.AXIS] for row in known], [row["ratios"][name] for row in known]
            below = [value["median"] - value["low"] for value in y]
            above = [value["high"] - value["median"] for value in y]
            axes.errorbar(x, [value["median"] for value in y], [below, above], marker="o", capsize=3, label=name)
        axes.axhline(1.0, color="grey", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel=module.AXIS, xscale=getattr(module, "SCALE", "linear"))
        axes.title.set_fontsize(9)
        axes.legend(fontsize=8)
    path = folder / f"{part}.png"
    figure.savefig(path, dpi=120)
    return path
