"""Tables of results, in every form."""

import csv
import io

import pytest

from vpt.report.tables import comma_separated, latex, markdown, mean_and_deviation, print_table, result_rows


def result(top1: float, seconds: float = 1.0) -> dict[str, object]:
    return {
        "val": {},
        "test": {"top1": top1},
        "tuned_parameters": 1234,
        "share": 0.0123,
        "seconds": seconds,
        "bytes": 5600,
    }


def test_a_row_has_mean_and_sample_deviation_over_seeds() -> None:
    (row,) = result_rows({"vpt-deep": [result(0.90, 1.0), result(0.92, 2.0), result(0.94, 3.0)]})
    assert row == {
        "run": "vpt-deep",
        "test top-1 (%)": "92.00 ± 2.00",
        "tuned": 1234,
        "share": "1.23%",
        "seconds": 2.0,
        "file size (KB)": 6,
    }


def test_groups_of_the_test_split_have_columns_of_their_own() -> None:
    runs = [result(0.5), result(0.7)]
    for run, sketch in zip(runs, (0.2, 0.4), strict=True):
        run["test"]["top1/sketch"] = sketch
    (row,) = result_rows({"linear": runs})
    assert list(row)[:3] == ["run", "test top-1 (%)", "sketch (%)"]
    assert row["sketch (%)"] == "30.00 ± 14.14"


def test_a_row_with_fewer_figures_than_a_later_one_has_empty_cells() -> None:
    fewer, more = result(0.5), result(0.7)
    more["val"] = {"top1": 0.6}
    rows = result_rows({"fewer": [fewer], "more": [more]})
    assert list(rows[0]) == list(rows[1])
    assert list(rows[0])[:4] == ["run", "test top-1 (%)", "val top-1 (%)", "tuned"]
    assert [row["val top-1 (%)"] for row in rows] == ["", "60.00"]


def test_no_form_loses_what_the_first_row_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"run": "a", "x": 1}, {"run": "b", "y": 2, "x": 3}]
    assert markdown(rows) == "| run | x | y |\n| --- | ---: | ---: |\n| a | 1 |  |\n| b | 3 | 2 |\n"
    assert comma_separated(rows) == "run,x,y\na,1,\nb,3,2\n"
    assert "b & 3 & 2 " in latex(rows)
    print_table(rows)
    assert "y" in capsys.readouterr().out.splitlines()[1]


def test_one_value_has_no_deviation() -> None:
    assert mean_and_deviation([0.5]) == "50.00"


def test_markdown_and_csv_hold_the_same_cells() -> None:
    rows = [{"run": "a", "share": 0.5}, {"run": "b", "share": 12345}]
    assert markdown(rows) == "| run | share |\n| --- | ---: |\n| a | 0.5 |\n| b | 12,345 |\n"
    assert list(csv.reader(io.StringIO(comma_separated(rows)))) == [["run", "share"], ["a", "0.5"], ["b", "12345"]]


def test_latex_is_a_tabular_of_booktabs_with_what_means_something_to_it_escaped() -> None:
    rows = [{"run_1": "R&D #1", "top-1 (%)": "91.00 ± 0.50", "tuned": 1234}, {"run_1": "b^{~}", "tuned": 5}]
    assert latex(rows) == (
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "run\\_1 & top-1 (\\%) & tuned \\\\\n"
        "\\midrule\n"
        "R\\&D \\#1 & 91.00 $\\pm$ 0.50 & 1,234 \\\\\n"
        "b\\textasciicircum{}\\{\\textasciitilde{}\\} &  & 5 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


def test_a_printed_table_is_whole_in_a_log_file(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"image": "a/very/long/path/" * 5 + "x.png", "label": "ant", "1.": 0.5}])
    assert "a/very/long/path/" * 5 + "x.png" in capsys.readouterr().out
