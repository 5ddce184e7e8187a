"""eval, predict, classes and search: what is asked of a run."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from vpt.commands.arguments import add, add_processes, add_run, loading, not_negative, positive, set_up
from vpt.errors import VptError
from vpt.report.notes import say, tell


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "eval", evaluate, "measure a run on one of its splits, or on other data")
    add_run(sub, "a run directory")
    sub.add_argument("overrides", nargs="*", metavar="data.KEY=VALUE", help="other data than the run's")
    text = "by default test of the run's own data, and all of other data"
    sub.add_argument("--split", choices=["train", "val", "test", "all"], help=text)
    add_processes(sub)
    text = "how well images below this folder, of no class that it knows, are told from test images"
    beyond = sub.add_mutually_exclusive_group()
    beyond.add_argument("--unknown", metavar="FOLDER", help=text)
    text = "test top-1 along the line from the frozen model to the tuned one"
    beyond.add_argument("--line", action="store_true", help=text)
    text = "with --line: also on shifted test images (noise, blur, dark, contrast, grey, jpeg, pixelate, or all)"
    sub.add_argument("--shift", nargs="+", default=[], metavar="NAME", help=text)
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = add(commands, "predict", predict, "classify image files")
    add_run(sub, "a run directory, a saved model, or a repository of the hub")
    sub.add_argument("images", nargs="+", metavar="IMAGES", help="image files, or folders of them")
    shown = sub.add_mutually_exclusive_group()
    shown.add_argument("--top", type=positive, metavar="K", help="classes to show (default: 3; in --csv the best)")
    shown.add_argument("--all-scores", action="store_true", help="show the probability of every class")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object a line")
    form.add_argument("--csv", metavar="FILE", help="write a table: image, label, score")
    sub.add_argument("--overwrite", action="store_true", help="write over a --csv file that is there")
    text = "choose among these, where class names are the classifier"
    sub.add_argument("--labels", nargs="+", metavar="TEXT", help=text)
    text = "sentences with {} for the labels, e.g. 'a photo of a {}.'"
    sub.add_argument("--templates", nargs="+", metavar="TEXT", help=text)
    add_workers(sub)

    sub = add(commands, "classes", classes, "save a model with what a run learned and other class names")
    add_run(sub, "a run directory, a saved model, or an image-text backbone")
    sub.add_argument("classes", nargs="+", metavar="CLASS", help="the names to choose among")
    sub.add_argument("--out", required=True, metavar="FOLDER", help="where the model is saved, for predict")
    sub.add_argument("--templates", nargs="+", metavar="TEXT", help="sentences with {} for the names; else the run's")
    sub.add_argument("--overwrite", action="store_true", help="write to a folder that holds something")

    sub = add(commands, "search", search, "find the images of a folder that a text describes best")
    add_run(sub, "an image-text run, a saved model, or an image-text backbone")
    sub.add_argument("text", metavar="TEXT", help="what to look for")
    sub.add_argument("folder", metavar="FOLDER", help="a folder of images")
    sub.add_argument("--top", type=positive, default=10, metavar="K", help="images to show (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_workers(sub)


def add_workers(sub: argparse.ArgumentParser) -> None:
    """--workers."""
    text = "processes that decode images; by default as many as are of use"
    sub.add_argument("--workers", type=not_negative, metavar="N", help=text)


def evaluate(given: argparse.Namespace) -> None:
    """`vpt eval`."""
    set_up(given)
    from vpt import experiment
    from vpt.report.tables import print_table

    if given.unknown or given.line or given.shift:
        return _evaluate_beyond(given)
    metrics = experiment.measure(given.run, given.split, given.overrides, weights=given.weights)
    if given.json:
        print(json.dumps(metrics))
    else:
        print_table([metrics])
    return None


def _evaluate_beyond(given: argparse.Namespace) -> None:
    from vpt import beyond
    from vpt.report.tables import print_table

    if given.overrides or given.split:
        raise VptError("--unknown and --line look at the run's own test images: leave --split and data.… out.")
    if given.shift and not given.line:
        raise VptError("--shift says on which images --line is measured: give --line too.")
    if given.unknown:
        found = beyond.unknown(given.run, given.unknown, weights=given.weights)
        rows = [found]
    else:
        found = beyond.along_the_line(given.run, given.shift, weights=given.weights)
        rows = [
            {f"of {found['of']}": name} | {f"{row['share']:g}": f"{row['top1']:.1%}" for row in points}
            for name, points in found["points"].items()
        ]
    if given.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print_table(rows)
        say(f"kept in {Path(given.run) / 'result.json'}, under trust")


def predict(given: argparse.Namespace) -> int | None:
    """`vpt predict`; 1 where images could not be decoded."""
    from vpt import use
    from vpt.commands.predictions import show_predictions, write_predictions
    from vpt.saving import check_out

    if given.csv is not None:
        check_out(given.csv, overwrite=given.overwrite)
        use.check_no_input(Path(given.csv), use.find_images_of(given.images))
    how = {"labels": given.labels, "templates": given.templates, "workers": given.workers}
    found = use.predict(given.run, given.images, **how, **loading(given))
    if given.csv is None:
        broken = show_predictions(found, top=None if given.all_scores else given.top or 3, as_json=given.json)
    else:
        broken = write_predictions(Path(given.csv), found, top=None if given.all_scores else given.top or 1)
        say(f"predictions written to {given.csv}")
    return _tell_broken(broken)


def _tell_broken(count: int) -> int | None:
    if not count:
        return None
    tell(f"{count} image{'s' if count > 1 else ''} could not be decoded.")
    return 1


def classes(given: argparse.Namespace) -> None:
    """`vpt classes`."""
    from vpt import use

    how = {"templates": given.templates, "overwrite": given.overwrite}
    model = use.new_classes(given.run, given.classes, given.out, **how, **loading(given))
    say(f"{model.method.name} with {len(model.classes)} classes written to {given.out}")
    say(f"try: vpt predict {shlex.quote(str(given.out))} IMAGES…")


def search(given: argparse.Namespace) -> int | None:
    """`vpt search`; 1 where images could not be decoded."""
    from vpt import use
    from vpt.report.tables import print_table

    how = {"top": given.top, "workers": given.workers}
    found, broken = use.search(given.run, given.text, given.folder, **how, **loading(given))
    for sentence in broken.values():
        tell(sentence)
    if given.json:
        print(json.dumps([{"image": str(path), "score": score} for path, score in found], ensure_ascii=False))
    elif found:
        print_table([{"image": str(path), "similarity": round(score, 4)} for path, score in found])
    return _tell_broken(len(broken))
