"""`python -m benchmarks`: measure, print and write ratios of speed and memory."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks import PARTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for."""
    options = parser().parse_args(arguments)
    # Threads that wait in a loop would be counted as work; torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from benchmarks import report
    from benchmarks.measure import Setting, measure

    on_gpu = "gpu" in options.parts
    if (options.device == "cuda" or on_gpu) and not torch.cuda.is_available():
        print("benchmarks: there is no GPU here: say --device cpu.", file=sys.stderr)
        return 2
    modules = [import_module(f"benchmarks.{part}") for part in options.parts or PARTS]
    known = {method for module in modules for method in getattr(module, "METHODS", ())}
    wrong = next((method for method in options.method if method not in known), None)
    if wrong:
        there = f"those of these parts are {', '.join(sorted(known))}" if known else "these parts have no methods"
        print(f"benchmarks: --method {wrong} is measured nowhere: {there}.", file=sys.stderr)
        return 2
    families = {family: None for module in modules for family in getattr(module, "FAMILIES", ())}
    wrong = next((family for family in options.family if family not in families), None)
    if wrong:
        said = (
            f"there are {', '.join(families)}" if families else "these parts have no families: name the part families"
        )
        print(f"benchmarks: --family {wrong} is measured nowhere: {said}.", file=sys.stderr)
        return 2
    if not all(1 <= count <= 1000 for count in options.classes):
        print("benchmarks: --classes is from 1 to 1000, as many as ImageNet has.", file=sys.stderr)
        return 2
    if on_gpu:
        from benchmarks import gpu

        return gpu.main(
            options.out,
            methods=options.method,
            prompts=options.prompts,
            classes=options.classes,
            compiled=not options.no_compile,
            seconds=options.seconds,
        )
    if "serve" in options.parts:
        from benchmarks import serve

        # A time of its own: clients and service take turns on the same cores.
        seconds = 2.0 if options.quick else min(options.seconds, 20.0)
        return serve.main(options.out, clients=options.clients, seconds=seconds, quick=options.quick)
    torch.set_num_threads(options.threads)
    setting = Setting(
        device=options.device,
        dtype=options.dtype,
        compiled=options.compile,
        threads=options.threads,
        repeats=options.repeats or (2 if options.quick else None),
        batch=options.batch,
        backbones=tuple(options.backbone),
        prompts=tuple(options.prompts),
        methods=tuple(options.method),
        families=tuple(options.family),
        classes=tuple(options.classes),
        tasks=tuple(options.tasks),
        quick=options.quick,
    )
    facts = report.about(setting)
    results: dict[str, list[dict[str, object]]] = {}
    for part in options.parts or PARTS:
        results[part] = []
        for case in import_module(f"benchmarks.{part}").cases(setting):
            results[part].append(measure(case, setting))
            print(report.told(results[part][-1]), file=sys.stderr, flush=True)
            # After each case, so that what was measured is kept if the rest is not.
            report.write(options.out, facts, results)
            # Otherwise the next case would be one more version of the same compiled functions.
            torch.compiler.reset()
        report.plot(options.out, part, results[part])
    print(report.document(facts, results))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parts = "\n".join(f"  {name}: {what}" for name, what in PARTS.items())
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Speed and memory as ratios, each measured side by side in one process.\n\nparts:\n{parts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "parts", nargs="*", choices=[*PARTS, "gpu", "serve", []], metavar="part", help="all that need no GPU by default"
    )
    made.add_argument("--quick", action="store_true", help="a tiny model, in seconds: whether it runs, not how fast")
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    made.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast")
    made.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile, without graph breaks: all of image, a step more in text",
    )
    made.add_argument("--threads", type=int, default=1, help="1 (default): CPU time; more: the wall clock")
    made.add_argument("--repeats", type=int, help="of everything that is timed (default 5, fewer if they take long)")
    made.add_argument(
        "--prompts",
        type=int,
        action="append",
        default=[],
        help="or context tokens, a number of them; may be repeated",
    )
    made.add_argument(
        "--method", action="append", default=[], help="image, text, gpu: these alone, of a part's own; may be repeated"
    )
    made.add_argument(
        "--family", action="append", default=[], help="families: vit, eva-02, dinov3, beit or swin; may be repeated"
    )
    made.add_argument(
        "--classes", type=int, action="append", default=[], help="text, gpu: so many class names; may be repeated"
    )
    made.add_argument("--tasks", type=int, action="append", default=[], help="bank: so many; may be repeated")
    made.add_argument("--clients", type=int, action="append", default=[], help="serve: so many; may be repeated")
    made.add_argument("--no-compile", action="store_true", help="gpu: nothing is compiled")
    made.add_argument(
        "--seconds", type=float, default=330.0, help="gpu: no case is begun later; serve: of load, 20 at most"
    )
    made.add_argument("--batch", type=int, help="images a batch, in place of the part's own")
    made.add_argument("--backbone", action="append", default=[], help="in place of the part's own; may be repeated")
    made.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder (default runs/benchmarks)")
    return made


if __name__ == "__main__":
    sys.exit(main())
