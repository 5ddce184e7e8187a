"""import: models of files that the papers' own code has written."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from vpt.commands.arguments import add, add_limits, set_up
from vpt.report.notes import say, tell


def add_to(commands: Any) -> None:
    """Add the parser."""
    sub = add(commands, "import", import_file, "make a model of a file that a paper's own code has written")
    sub.add_argument("file", metavar="FILE", help="a checkpoint of Dassl's (model.pth.tar-N), or CLIP-LoRA's .pt")
    sub.add_argument("overrides", nargs="*", metavar="method.KEY=VALUE", help="options of the method")
    sub.add_argument("--method", required=True, metavar="NAME", help="what the file has learned, e.g. maple")
    text = "the frozen model that it was trained on, e.g. open_clip/ViT-B-16/openai"
    sub.add_argument("--backbone", required=True, metavar="NAME", help=text)
    sub.add_argument("--out", required=True, metavar="FOLDER", help="where the model is saved, for eval and predict")
    sub.add_argument("--classes", nargs="+", metavar="CLASS", help="their names, where context belongs to classes")
    sub.add_argument("--weights", metavar="FILE", help="the backbone's weights, where they are not had by its name")
    sub.add_argument("--overwrite", action="store_true", help="write to a folder that holds something")
    add_limits(sub)


def import_file(given: argparse.Namespace) -> None:
    """`vpt import`."""
    from vpt import config, imports
    from vpt.saving import check_out

    set_up(given)
    check_out(given.out, overwrite=given.overwrite)
    section = config.changed({"method": {"name": given.method}}, given.overrides)["method"]
    options = {key: value for key, value in section.items() if key != "name"}
    how = {"classes": given.classes, "weights": given.weights, "options": options}
    model, found, rest = imports.import_file(given.file, given.method, given.backbone, **how)
    model.save_pretrained(given.out, overwrite=given.overwrite)
    shown = ", ".join(f"{key}={value}" for key, value in found.options.items())
    say(f"{given.method} ({shown}) of {len(found.used)} tensors written to {given.out}")
    if rest:
        first = ", ".join(rest[:3]) + (", …" if len(rest) > 3 else "")
        tell(f"{len(rest)} other tensors of {given.file} are left out ({first}).")
    say(f"try: vpt eval {shlex.quote(str(given.out))} data.path=IMAGES")
