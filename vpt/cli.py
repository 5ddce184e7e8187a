"""The command `vpt`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vpt.errors import VptError
from vpt.report.waiting import say_once

EXIT_OK, EXIT_FAILED, EXIT_MISTAKE, EXIT_INTERRUPTED = 0, 1, 2, 130

TABLES = {
    "compare": "train several methods or seeds of one config, and print them as a table",
    "few-shot": "train methods on a few images of each class, for several numbers of them, data sets and seeds",
    "base-to-new": "train methods on half of the classes, and test them on these and on the names of the others",
    "transfer": "train methods on one data set, and test them on others (cross-data-set transfer), or on other "
    "domains of the same classes (domain generalisation)",
}

EPILOG = """exit codes: 0 done, 1 failed, 2 a mistake in what was asked for, 130 interrupted"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    top = parser()
    given, rest = top.parse_known_args(arguments)
    # Assignments may also stand after options, where argparse no longer takes them.
    strange = [text for text in rest if "=" not in text or text.startswith("-") or "overrides" not in given]
    if strange:
        top.error(f"{strange[0]!r} is no option or argument of this command; see --help")
    if rest:
        given.overrides += rest
    command: Callable[[argparse.Namespace], None] = given.command
    say_once()
    try:
        command(given)
    except VptError as error:
        print(f"vpt: {error}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print("vpt: interrupted; a training run goes on with --resume.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="vpt", description="Visual prompt tuning of frozen backbones.", epilog=EPILOG)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(command=command)
        return sub

    def add_config(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("config", metavar="CONFIG", help="a YAML file; those in configs/ tell what they expect")
        sub.add_argument("overrides", nargs="*", metavar="KEY.PATH=VALUE", help="changes, e.g. train.epochs=10")
        sub.add_argument("--quiet", action="store_true", help="no progress")

    def add_no_test(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--no-test", action="store_true", help="leave the test split alone, as trials should")

    def add_existing(sub: argparse.ArgumentParser) -> None:
        choice = sub.add_mutually_exclusive_group()
        choice.add_argument("--resume", action="store_true", help="go on with the run that lies in the run directory")
        choice.add_argument("--overwrite", action="store_true", help="delete the run that lies in the run directory")

    sub = add("train", _train, "train one experiment, and measure it on the test split")
    add_config(sub)
    add_existing(sub)
    add_no_test(sub)

    sub = add("fit-batch", _fit_batch, "find the largest batch that fits into memory, at as many images a step")
    add_config(sub)
    sub.add_argument("--max", type=_positive, metavar="N", help="the largest batch to try; on a CPU it must be given")

    for name, text in TABLES.items():
        sub = add(name, _table, text)
        add_config(sub)
        sub.set_defaults(name=name)
        sub.add_argument("--row", action="append", default=[], metavar="LABEL", help="only this row; may be repeated")
        sub.add_argument("--overwrite", action="store_true", help="delete finished runs; otherwise they are read")
        add_no_test(sub)

    sub = add("pretrain", _pretrain, "train a backbone from scratch, and write it")
    add_config(sub)
    add_existing(sub)

    sub = add("eval", _eval, "measure a run on one of its splits, or on other data")
    sub.add_argument("run", metavar="RUN", help="a run directory")
    sub.add_argument("overrides", nargs="*", metavar="data.KEY=VALUE", help="other data than the run's")
    sub.add_argument("--split", default="test", choices=["train", "val", "test"], help="default: %(default)s")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = add("predict", _predict, "classify image files")
    sub.add_argument("run", metavar="RUN", help="a run directory, a saved model, or a repository of the hub")
    sub.add_argument("images", nargs="+", metavar="IMAGES", help="image files, or folders of them")
    sub.add_argument("--top", type=_positive, default=3, metavar="K", help="classes to show (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print one JSON object a line")

    sub.add_argument(
        "--labels", nargs="+", metavar="TEXT", help="choose among these, where class names are the classifier"
    )
    sub.add_argument(
        "--templates", nargs="+", metavar="TEXT", help="sentences with {} for the labels, e.g. 'a photo of a {}.'"
    )

    sub = add("classes", _classes, "save a model with what a run learned and other class names")
    sub.add_argument("run", metavar="RUN", help="a run directory, a saved model, or an image-text backbone")
    sub.add_argument("classes", nargs="+", metavar="CLASS", help="the names to choose among")
    sub.add_argument("--out", required=True, metavar="FOLDER", help="where the model is saved, for predict")
    sub.add_argument("--templates", nargs="+", metavar="TEXT", help="sentences with {} for the names; else the run's")
    sub.add_argument("--overwrite", action="store_true", help="write to a folder that holds something")

    sub = add("words", _words, "show which words a learned context is nearest to")
    sub.add_argument("run", metavar="RUN", help="a run directory or a saved model, of a method with learned context")
    sub.add_argument("--top", type=_positive, default=5, metavar="K", help="words a token (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print one JSON object a line")

    sub = add("attention", _attention, "draw where the read-out token and the prompts look, block by block")
    sub.add_argument("run", metavar="RUN", help="a run directory, a saved model, or an image-text backbone")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of a few")
    sub.add_argument("--out", required=True, metavar="FILE", help="the picture, e.g. attention.png or attention.pdf")
    sub.add_argument("--blocks", nargs="+", type=int, metavar="N", help="blocks to show, from 0; else all")
    sub.add_argument("--each-prompt", action="store_true", help="show each prompt by itself too")
    sub.add_argument("--overwrite", action="store_true", help="write over a picture that is there")

    sub = add("search", _search, "find the images of a folder that a text describes best")
    sub.add_argument("run", metavar="RUN", help="an image-text run, a saved model, or an image-text backbone")
    sub.add_argument("text", metavar="TEXT", help="what to look for")
    sub.add_argument("folder", metavar="FOLDER", help="a folder of images")
    sub.add_argument("--top", type=_positive, default=10, metavar="K", help="images to show (default: %(default)s)")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = add("list", _list, "list what there is")
    sub.add_argument("what", choices=["methods", "backbones", "datasets"])
    sub.add_argument("pattern", nargs="?", default="", help="only names that hold this text")

    sub = add("inspect", _inspect, "show a backbone's shape, and which path each of its blocks takes and why")
    sub.add_argument("backbone", metavar="BACKBONE", help="library/model, e.g. vpt/vit-nano")
    return top


def _positive(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _train(given: argparse.Namespace) -> None:
    from vpt import config, experiment
    from vpt.report.tables import result_rows

    settings = config.read(given.config, given.overrides)
    how = {"resume": given.resume, "overwrite": given.overwrite, "test": not given.no_test}
    _, result = experiment.train(settings, **how, progress=not given.quiet)
    _show(result_rows({str(settings.out): [result]}))
    print(f"try: vpt predict {settings.out} IMAGES…")


def _fit_batch(given: argparse.Namespace) -> None:
    from vpt import config, experiment

    found = experiment.fit_batch(config.read(given.config, given.overrides), limit=given.max, progress=not given.quiet)
    print("train:")
    for key, value in found.items():
        print(f"  {key}: {value}")
    print("# or: " + " ".join(f"train.{key}={value}" for key, value in found.items()))


def _table(given: argparse.Namespace) -> None:
    from vpt import config, protocols, sweep

    make = sweep.compare if given.name == "compare" else getattr(protocols, given.name.replace("-", "_"))
    settings = sweep.only(config.read(given.config, given.overrides), given.row)
    _show(make(settings, test=not given.no_test, overwrite=given.overwrite, progress=not given.quiet))
    print(f"as Markdown, CSV and LaTeX: {settings.out}/table.md, table.csv, table.tex")


def _pretrain(given: argparse.Namespace) -> None:
    from vpt import config
    from vpt.pretrain import pretrain

    settings = config.read(given.config, given.overrides)
    folder = pretrain(settings, resume=given.resume, overwrite=given.overwrite, progress=not given.quiet)
    print(f"backbone written to {folder}")


def _eval(given: argparse.Namespace) -> None:
    from vpt import experiment

    metrics = experiment.measure(given.run, given.split, given.overrides)
    if given.json:
        print(json.dumps(metrics))
    else:
        _show([metrics])


def _predict(given: argparse.Namespace) -> None:
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


def _classes(given: argparse.Namespace) -> None:
    from vpt import use

    how = {"templates": given.templates, "overwrite": given.overwrite}
    model = use.new_classes(given.run, given.classes, given.out, **how)
    print(f"{model.method.name} with {len(model.classes)} classes written to {given.out}")
    print(f"try: vpt predict {given.out} IMAGES…")


def _words(given: argparse.Namespace) -> None:
    from vpt import use

    rows = use.words(given.run, top=given.top)
    if given.json:
        for row in rows:
            near = [{"word": word, "distance": distance} for word, distance in row["words"]]
            print(json.dumps(row | {"words": near}, ensure_ascii=False))
        return
    _show([{key: row[key] for key in row if key != "words"} | _near(row["words"]) for row in rows])


def _near(words: Sequence[tuple[str, float]]) -> dict[str, str]:
    return {f"{rank}.": f"{word} {distance:.3f}" for rank, (word, distance) in enumerate(words, 1)}


def _attention(given: argparse.Namespace) -> None:
    from vpt import use

    how = {"blocks": given.blocks, "each_prompt": given.each_prompt, "overwrite": given.overwrite}
    use.attention(given.run, given.images, given.out, **how)
    print(f"attention drawn to {given.out}")


def _list(given: argparse.Namespace) -> None:
    from vpt import use
    from vpt.report.tables import print_table

    rows = use.listing(given.what, given.pattern)
    if not rows:
        raise VptError(f"no {given.what} match {given.pattern!r}: leave the pattern out to see all.")
    print_table(rows)


def _inspect(given: argparse.Namespace) -> None:
    from vpt import use
    from vpt.report.tables import print_table

    print_table(use.inspect(given.backbone))


def _search(given: argparse.Namespace) -> None:
    from vpt import use

    found = use.search(given.run, given.text, given.folder, top=given.top)
    if given.json:
        print(json.dumps([{"image": str(path), "score": score} for path, score in found], ensure_ascii=False))
    else:
        _show([{"image": str(path), "similarity": round(score, 4)} for path, score in found])


def _show(rows: list[dict[str, Any]]) -> None:
    from vpt.report.tables import print_table

    print_table(rows)


if __name__ == "__main__":
    sys.exit(main())
