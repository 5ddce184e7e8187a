"""What is written of measured cases."""

from pathlib import Path

from benchmarks import report
from benchmarks.measure import Case, Ratio, Run, Setting, measure


def row(classes: int, note: str = "", at_most: float | None = None) -> dict[str, object]:
    runs = {name: Run(lambda seconds=seconds: seconds, own_clock=True) for name, seconds in (("a", 3.0), ("b", 2.0))}
    ratios = [
        Ratio("plain step / step", "a", "b", at_most=at_most),
        Ratio("step / limit", "b", "a", at_least=0.5 if at_most else None),
    ]
    facts = {"method": "coop", "classes": classes}
    return measure(Case(facts, runs, ratios[: None if classes < 100 else 1], 4, note=note), Setting(repeats=2))


def test_the_document_begins_with_targets_met_and_missed() -> None:
    parts = {"text": [row(10, at_most=1.2), row(20)]}
    assert report.targets(parts) == [
        {
            "part": "text",
            "case": "coop, 10",
            "ratio": "plain step / step",
            "target": "≤ 1.2",
            "measured": 1.5,
            "met": False,
        },
        {
            "part": "text",
            "case": "coop, 10",
            "ratio": "step / limit",
            "target": "≥ 0.5",
            "measured": 0.667,
            "met": True,
        },
    ]
    text = report.document(report.about(Setting()), parts)
    assert "1 of 2 are met." in text
    assert text.index("## targets") < text.index("## text")
    assert "| text | coop, 10 | plain step / step | ≤ 1.2 | 1.5 | ✗ |" in text


def test_without_targets_there_is_no_table_of_them_and_notes_are_told() -> None:
    text = report.document(report.about(Setting()), {"text": [row(10), row(100, note="It does not fit.")]})
    assert "## targets" not in text
    assert text.endswith("\nIt does not fit.\n")


def test_cases_without_a_ratio_are_left_out_of_its_line(tmp_path: Path) -> None:
    path = report.plot(tmp_path, "text", [row(10), row(100)])
    assert path is not None
    assert path.stat().st_size > 1000
