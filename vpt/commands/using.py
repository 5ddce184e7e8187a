"""eval, predict, classes and search: what is asked of a run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vpt.commands.arguments import add, positive


def add_to(commands: Any) -> None:
    """Add the parsers."""
    sub = add(commands, "eval", evaluate, "measure a run on one of its splits, or on other data")
    sub.add_argument("run", metavar="RUN", help="a run directory")
    sub.add_argument("overrides", nargs="*", metavar="data.KEY=VALUE", help="other data than the run's")
    sub.add_argument("--split", default="test", choices=["train", "val", "test"], help="default: %(default)s")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = add(commands, "predict", predict, "classify image files")
    sub.add_argument("run", metavar="RUN", help="a run directory, a saved model, or a repository of the hub")
    sub.add_argument("images", nargs="+", metavar="IMAGES", help="image files, or folders of them")
    sub.add_argument("--top", type=positive, default=3, metavar="K", help="classes to show (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print one JSON object a line")
    text = "choose among these, where class names are the classifier"
    sub.add_argument("--labels", nargs="+", metavar="TEXT", help=text)
    text = "sentences with {} for the labels, e.g. 'a photo of a {}.'"
    sub.add_argument("--templates", nargs="+", metavar="TEXT", help=text)

    sub = add(commands, "classes", classes, "save a model with what a run learned and other class names")
    sub.add_argument("run", metavar="RUN", help="a run directory, a saved model, or an image-text backbone")
    sub.add_argument("classes", nargs="+", metavar="CLASS", help="the names to choose among")
    sub.add_argument("--out", required=True, metavar="FOLDER", help="where the model is saved, for predict")
    sub.add_argument("--templates", nargs="+", metavar="TEXT", help="sentences with {} for the names; else the run's")
    sub.add_argument("--overwrite", action="store_true", help="write to a folder that holds something")

    sub = add(commands, "search", search, "find the images of a folder that a text describes best")
    sub.add_argument("run", metavar="RUN", help="an image-text run, a saved model, or an image-text backbone")
    sub.add_argument("text", metavar="TEXT", help="what to look for")
    sub.add_argument("folder", metavar="FOLDER", help="a folder of images")
    sub.add_argument("--top", type=positive, default=10, metavar="K", help="images to show (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print JSON")


def evaluate(given: argparse.Namespace) -> None:
    """`vpt eval`."""
    from vpt import experiment
    from vpt.report.tables import print_table

    metrics = experiment.measure(given.run, given.split, given.overrides)
    if given.json:
        print(json.dumps(metrics))
    else:
        print_table([metrics])


def predict(given: argparse.Namespace) -> None:
    """`vpt predict`."""
    from vpt import use
    from vpt.report.tables import print_table

    rows = []
    for path, prediction in use.predict(given.run, given.images, labels=given.labels, templates=given.templates):
        best = dict(list(prediction.scores.items())[: given.top])
        if given.json:
            print(json.dumps({"image": str(path), "label": prediction.label, "scores": best}, ensure_ascii=False))
        else:
            rows.append({"image": str(path), "label": prediction.label} | _ranked(best))
    if rows:
        print_table(rows)


def _ranked(scores: dict[str, float]) -> dict[str, str]:
    return {f"{rank}.": f"{name} {score:.1%}" for rank, (name, score) in enumerate(scores.items(), 1)}


def classes(given: argparse.Namespace) -> None:
    """`vpt classes`."""
    from vpt import use

    how = {"templates": given.templates, "overwrite": given.overwrite}
    model = use.new_classes(given.run, given.classes, given.out, **how)
    print(f"{model.method.name} with {len(model.classes)} classes written to {given.out}")
    print(f"try: vpt predict {given.out} IMAGES…")


def search(given: argparse.Namespace) -> None:
    """`vpt search`."""
    from vpt import use
    from vpt.report.tables import print_table

    found = use.search(given.run, given.text, given.folder, top=given.top)
    if given.json:
        print(json.dumps([{"image": str(path), "score": score} for path, score in found], ensure_ascii=False))
    else:
        print_table([{"image": str(path), "similarity": round(score, 4)} for path, score in found])
