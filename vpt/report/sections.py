"""The sections of a page about runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import torch

from vpt.report import charts
from vpt.report.intervals import paired_bootstrap, wilson
from vpt.report.page import Panel, Section, confusion, data_uri, heat, table
from vpt.report.reliability import reliability

# So many classes can be read in a matrix; of more the pairs that are confused most are named.
MOST_CLASSES = 60
PAIRS = 15


def subtitle(runs: Sequence[Any]) -> str:
    """What was learned on which data."""
    parts = dict.fromkeys(
        f"{run.result['method']} on {run.result['backbone']}, data {run.result['data']['name']}" for run in runs
    )
    return "; ".join(parts)


def sections(runs: Sequence[Any], *, images: int) -> list[Section]:
    """Those that there is something to show in.

    Args:
        runs: of `vpt.reporting.Run`.
        images: thumbnails of a kind.
    """
    several = len(runs) > 1
    every = [
        Section("figures", "In figures", [_cards(run, n, several) for n, run in enumerate(runs)]),
        _against(runs) if several else None,
        _curves(runs),
        _per_run("confusion", "What is taken for what", runs, _confusion, wide=True),
        _per_run("classes", "Class by class", runs, _classes, wide=not several),
        _per_run("images", "Mistakes and close calls", runs, lambda run: _galleries(run, images), wide=True),
        _per_run(
            "calibration",
            "Does it know what it does not know?",
            runs,
            _calibration,
            lead="One temperature, found on validation images alone, divides the logits. Bars on the dashed line mean "
            "that of images of which the model is 80 % sure it gets 80 % right; red is what lies between.",
            wide=not several,
        ),
        _line(runs),
        _per_run("words", "Words near the learned context", runs, _words),
        _per_run("attention", "Where it looks", runs, _looks, wide=True),
        Section("made", "How it was made", [_made(run, n, several) for n, run in enumerate(runs)]),
    ]
    return [section for section in every if section is not None]


def _per_run(
    id: str, title: str, runs: Sequence[Any], of: Any, *, lead: str = "", wide: bool = False
) -> Section | None:
    panels = []
    for number, run in enumerate(runs):
        panel = of(run)
        if panel is not None:
            panel.title = run.name if len(runs) > 1 else ""
            panel.colour = charts.colour(number) if len(runs) > 1 else ""
            panels.append(panel)
    return Section(id, title, panels, lead, wide) if panels else None


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _cards(run: Any, number: int, several: bool) -> Panel:
    result, cards = run.result, []
    for split, title in (("test", "test top-1"), ("val", "validation top-1")):
        if "top1" in result[split]:
            count = result["data"]["sizes"].get(split, 0)
            beside = (
                "{:.1%} – {:.1%} ({:,} images)".format(*wilson(result[split]["top1"], count), count) if count else ""
            )
            cards.append({"name": title, "value": _percent(result[split]["top1"]), "beside": beside})
    for key, title in (("i2t_r1", "images to texts, R@1"), ("t2i_r1", "texts to images, R@1")):
        if key in result["test"]:
            cards.append({"name": title, "value": _percent(result["test"][key]), "beside": "test"})
    trust = result.get("trust", {})
    if "test" in trust:
        after = trust["test"].get("ece_calibrated")
        beside = "" if after is None else f"{after:.1%} at temperature {trust['temperature']:.2f}"
        cards.append({"name": "calibration error", "value": _percent(trust["test"]["ece"]), "beside": beside})
    if "unknown" in trust:
        found = trust["unknown"]
        cards.append({"name": "unknown images, AUROC", "value": _percent(found["auroc"]), "beside": found["score"]})
    share = f"{result['share']:.2%} of all"
    cards.append({"name": "tuned numbers", "value": f"{result['tuned_parameters']:,}", "beside": share})
    cards.append({"name": "file", "value": _bytes(result["bytes"]), "beside": "without the backbone"})
    stopped = ", stopped early" if result["stopped_early"] else ""
    best = f"best of epoch {result['best_epoch']} of {len(run.history)}{stopped}"
    beside = best if _trained(run) else "nothing is trained"
    cards.append({"name": "training", "value": _time(result["seconds"]), "beside": beside})
    colour = charts.colour(number) if several else ""
    return Panel(run.name if several else "", colour, cards=cards, notes=run.missing)


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _against(runs: Sequence[Any]) -> Section:
    """All of them in one picture, and each pair on the images that both were tested on."""
    panel, rows = Panel(), []
    measured = [run for run in runs if "top1" in run.result["test"]]
    for run in measured:
        top1, count = run.result["test"]["top1"], run.result["data"]["sizes"]["test"]
        low, high = wilson(top1, count)
        rows.append({"name": run.name, "x": run.result["tuned_parameters"], "y": top1, "low": low, "high": high})
    if rows:
        caption = "Test top-1 with its 95 % interval (Wilson) by how many numbers were tuned."
        panel.charts = [{"svg": charts.intervals(rows, "tuned numbers", "test top-1"), "caption": caption}]
    pairs = [_pair(one, other) for one, other in combinations(measured, 2)]
    known = [pair for pair in pairs if pair]
    second = Panel()
    if known:
        text = (
            "Paired bootstrap over the test images that both were measured on: an interval without 0 tells these two "
            "models apart. What other seeds of the same methods would come to is not in it; vpt compare holds it."
        )
        second.tables = [table(known, text)]
    elif len(measured) > 1:
        second.notes = ["No two of these runs were measured on the same test images, so that they are not paired."]
    return Section("against", "Against each other", [each for each in (panel, second) if each != Panel()])


def _pair(one: Any, other: Any) -> dict[str, Any] | None:
    first, second = (
        {row["image"]: row["label"] == row["said"] for row in run.predictions if row["split"] == "test"}
        for run in (one, other)
    )
    both = [name for name in first if name in second]
    if not both:
        return None
    found = paired_bootstrap([first[name] for name in both], [second[name] for name in both])
    apart = found["low"] > 0 or found["high"] < 0
    return {
        "run": one.name,
        "against": other.name,
        "difference": f"{found['difference']:+.1%}",
        "95 % interval": f"{found['low']:+.1%} to {found['high']:+.1%}",
        "images": len(both),
        "only the first right": found["only_first"],
        "only the second right": found["only_second"],
        "told apart": "yes" if apart else "no",
    }


def _trained(run: Any) -> bool:
    """Whether the run has epochs; one that trains nothing has a row of epoch 0."""
    return not run.history or run.history[-1]["epoch"] > 0


def _curves(runs: Sequence[Any]) -> Section | None:
    """Lines by epoch; a run that trains nothing is a point at 0 beside those that do, and no curve alone."""
    if not any(map(_trained, runs)):
        return None
    shown = []
    for key, title, percent in (
        ("train/loss", "training loss", False),
        ("val/loss", "validation loss", False),
        ("train/top1", "training top-1", True),
        ("val/top1", "validation top-1", True),
        ("val/rsum", "validation sum of recalls", False),
    ):
        series = {run.name: [(row["epoch"], row[key]) for row in run.history if key in row] for run in runs}
        series = {name: points for name, points in series.items() if points}
        if series:
            shown.append((title, charts.curves(series, "epoch", title, percent=percent)))
    panels = [Panel(title[0].upper() + title[1:], charts=[{"svg": drawn, "caption": ""}]) for title, drawn in shown]
    return Section("curves", "Curves", panels) if panels else None


def _test_rows(run: Any) -> list[dict[str, Any]]:
    return [row for row in run.predictions if row["split"] == "test"]


def _confusion(run: Any) -> Panel | None:
    counts = run.result["confusion"]
    if not counts or not run.classes:
        return None
    panel = Panel()
    if len(counts) <= MOST_CLASSES:
        panel.matrix = confusion(counts, run.classes)
    else:
        panel.heat = heat(counts)
    pairs = [
        {"true class": run.classes[true], "said": run.classes[said], "images": count, "of the class": count / sum(row)}
        for true, row in enumerate(counts)
        for said, count in enumerate(row)
        if count and said != true
    ]
    pairs.sort(key=lambda row: -row["images"])
    if pairs:
        panel.tables = [table(pairs[:PAIRS], "What is confused most", sortable=True, bars=["of the class"])]
    else:
        panel.notes = ["No test image was taken for another class."]
    return panel


def _classes(run: Any) -> Panel | None:
    counts = run.result["confusion"]
    if not counts or not run.classes:
        return None
    columns = [sum(row[said] for row in counts) for said in range(len(counts))]
    rows = []
    for label, row in enumerate(counts):
        right, total, said = row[label], sum(row), columns[label]
        precision, recall = right / said if said else None, right / total if total else None
        both = precision is not None and recall is not None and precision + recall
        f1 = 2 * precision * recall / (precision + recall) if both else None  # type: ignore[operator]
        rows.append({"class": run.classes[label], "images": total, "precision": precision, "recall": recall, "F1": f1})
    known = [row["recall"] for row in rows if row["recall"] is not None]
    notes = [f"Mean recall {statistics.mean(known):.1%}, lowest {min(known):.1%}, highest {max(known):.1%}."]
    caption = "Each class on the test images; a click on a name sorts"
    return Panel(tables=[table(rows, caption, sortable=True, bars=["precision", "recall", "F1"])], notes=notes)


def _galleries(run: Any, count: int) -> Panel | None:
    rows = _test_rows(run)
    if not rows or not run.classes:
        return None
    wrong = sorted((row for row in rows if row["said"] != row["label"]), key=lambda row: -row["score"])
    right = sorted((row for row in rows if row["said"] == row["label"]), key=lambda row: row["score"])
    groups = [
        ("Most confident mistakes", wrong, "There is no mistake on the test images."),
        ("Least sure hits", right, "No test image was told right."),
    ]
    galleries = [
        {
            "title": title,
            "images": _images(run, chosen, count),
            "none": none if not chosen else "Images are not at hand.",
        }
        for title, chosen, none in groups
    ]
    return Panel(galleries=galleries)


def _images(run: Any, rows: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    found = []
    for row in list(rows)[:count]:
        picture = run.image("test", row["image"])
        if picture is None:
            continue
        said, label, right = run.classes[row["said"]], run.classes[row["label"]], row["said"] == row["label"]
        found.append(
            {
                "source": data_uri(picture, 160),
                "alt": f"{label}, said {said}",
                "said": said,
                "score": f"{row['score']:.0%}",
                "label": "" if right else label,
                "kind": "right-said" if right else "wrong-said",
                "name": row["image"],
            }
        )
    return found


def _calibration(run: Any) -> Panel | None:
    trust, rows = run.result.get("trust", {}), _test_rows(run)
    if "test" not in trust or not rows:
        return None
    right = torch.tensor([row["said"] == row["label"] for row in rows])
    figures, shown = trust["test"], []
    for key, name in (("score", "as it is"), ("calibrated", f"at temperature {trust.get('temperature', 1):.2f}")):
        if any(row[key] is None for row in rows):
            continue
        bins = reliability(torch.tensor([row[key] for row in rows]), right)
        ece = figures["ece" if key == "score" else "ece_calibrated"]
        title = f"Test images {name}: calibration error {ece:.1%}"
        shown.append({"svg": charts.reliability(bins, title), "caption": title})
    panel = Panel(charts=shown)
    if "temperature" in trust:
        val = trust["val"]
        panel.notes.append(
            f"On the validation images that the temperature was found on: error {val['ece']:.1%} before, "
            f"{val['ece_calibrated']:.1%} after; negative log-likelihood {val['nll']:.3f} before, "
            f"{val['nll_calibrated']:.3f} after."
        )
    else:
        panel.notes.append("There are no validation images to find a temperature on.")
    if "unknown" in trust:
        found = trust["unknown"]
        panel.notes.append(
            f"Images of no known class ({found['unknown']:,} below {found['folder']}, {found['score']}): AUROC "
            f"{found['auroc']:.1%} ({found['auroc_low']:.1%} to {found['auroc_high']:.1%}); where 95 % of the test "
            f"images are taken for known, {found['fpr95']:.1%} of those are too."
        )
    return panel


def _line(runs: Sequence[Any]) -> Section | None:
    panels = []
    for run in runs:
        found = run.result.get("trust", {}).get("line")
        if found:
            series = {name: [(row["share"], row["top1"]) for row in rows] for name, rows in found["points"].items()}
            rows = [
                {"images": name, "frozen": _with_interval(rows[0]), "tuned": _with_interval(rows[-1])}
                | {"best": f"{max(row['top1'] for row in rows):.1%}"}
                for name, rows in found["points"].items()
            ]
            drawn = charts.curves(series, f"share of the tuned model, of its {found['of']}", "top-1", percent=True)
            tables = [table(rows, "Top-1 at both ends with 95 % intervals, and the best on the line")]
            panels.append(
                Panel(run.name if len(runs) > 1 else "", charts=[{"svg": drawn, "caption": ""}], tables=tables)
            )
    lead = (
        "From the frozen model (0) to the tuned one (1), on test images and shifted ones. The best place on the line "
        "is not to be chosen by these test images."
    )
    return Section("line", "On the way from frozen to tuned", panels, lead) if panels else None


def _with_interval(row: dict[str, float]) -> str:
    return f"{row['top1']:.1%} ({row['low']:.1%} – {row['high']:.1%})"


def _words(run: Any) -> Panel | None:
    if not run.words:
        return None
    rows = [
        {key: row[key] for key in ("class", "token") if key in row}
        | {f"{rank}.": f"{word} {distance:.2f}" for rank, (word, distance) in enumerate(row["words"], 1)}
        for row in run.words
    ]
    note = "A word that is near need not be what a token has come to mean: the number is its distance."
    return Panel(tables=[table(rows, "Nearest words of the vocabulary to each learned token")], notes=[note])


def _looks(run: Any) -> Panel | None:
    return Panel(looks=run.looks) if run.looks else None


def _made(run: Any, number: int, several: bool) -> Panel:
    data = run.result["data"]
    sizes = ", ".join(f"{count:,} {split}" for split, count in data["sizes"].items())
    texts = [
        {"title": "Config, as it was resolved", "text": run.config, "open": not several},
        {"title": "Environment", "text": run.environment, "open": False},
    ]
    colour = charts.colour(number) if several else ""
    notes = [f"Images: {sizes}. Seed {run.result['seed']}. Folder: {run.path}."]
    return Panel(run.name if several else "", colour, texts=texts, notes=notes)
