"""export: a run as one file that runs without this package."""

from __future__ import annotations

import argparse
from typing import Any

from vpt.commands.arguments import add, add_run, loading
from vpt.report.notes import say


def add_to(commands: Any) -> None:
    """Add the parser."""
    sub = add(commands, "export", export, "write a run as one ONNX or torch.export file, and check it")
    add_run(sub, "a run directory, or a saved model")
    sub.add_argument("out", metavar="FILE", help="model.onnx, or model.pt2 for torch.export")
    text = "images or folders that the file is checked with; by default the run's own"
    sub.add_argument("--images", nargs="+", metavar="IMAGE", help=text)
    text = "uint8: bytes (B, H, W, 3); float32: numbers (B, 3, H, W) from 0 to 1 (default: %(default)s)"
    sub.add_argument("--input", choices=["uint8", "float32"], default="uint8", help=text)
    sub.add_argument("--overwrite", action="store_true", help="write over a file that is there")


def export(given: argparse.Namespace) -> None:
    """`vpt export`."""
    from vpt.serving.runs import export_run

    how = {"images": given.images, "input": given.input, "overwrite": given.overwrite}
    facts = export_run(given.run, given.out, **how, **loading(given))
    checked = facts["checked"]
    what = "probabilities" if facts["classes"] else "features"
    size = " × ".join(map(str, facts["input"]["layout"]))
    say(f"{given.out} written, with what is done to a picture before in {given.out}.json")
    say(f"input {facts['input']['name']}: {facts['input']['type']}, {size}; output: {', '.join(facts['output'])}")
    say(f"checked on {checked['images']} images: {what} at most {checked['largest difference']:.1e} from the model's")
