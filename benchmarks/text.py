"""Text prompts: a training step against a forward pass of the cut texts, and against the plain form over whole ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vpt
from benchmarks.image import step_run
from benchmarks.measure import Case, Ratio, Run, Setting, saved_bytes
from vpt.loops import encode_texts

AXIS = "classes"
SCALE = "log"
LINES = ("plain step / step", "step / limit")

BACKBONES = ("open_clip/ViT-B-32",)
METHODS = ("coop", "maple", "ivlp", "cocoop")
CLASSES = (10, 100, 1000)
CONTEXT = (4, 16)
BATCH = 32
# Of images that each have texts of their own.
BATCHES = (1, 8, 32)

# Beyond this many images a batch, operations and the forward pass are left out: they are those of more images.
COUNTED = 8

# With 100 classes, the plain form's step over the step: at least; of its saved bytes, with 16 context tokens: at most.
COOP, OTHERS, SAVED = 18.0, 10.0, 0.1

# Seconds that the repeats of a case take, and bytes that the plain form may keep on a CPU.
BUDGET = 25.0
MEMORY = 12e9


def cases(setting: Setting) -> Iterator[Case]:
    """Each method with few and many classes; random weights and cached image features, so that all is text.

    A case is to be measured before the next one is asked for, which may give the same model other classes.
    """
    for backbone in setting.backbones or (("vpt/clip-nano",) if setting.quick else BACKBONES):
        counts = setting.classes or ((3, 5) if setting.quick else CLASSES)
        # Where a number of classes is asked for, all methods have it; otherwise those beside CoOp have one.
        some = setting.classes or counts[1:2]
        for context in (setting.prompts or ((2,) if setting.quick else CONTEXT)) if setting.wants("coop") else ():
            model = made(backbone, "coop", setting, num_tokens=context)
            for count in counts:
                yield case(model, count, setting, {"model": backbone, "method": "coop"})
        for method in filter(setting.wants, ("maple", "ivlp")):
            model = made(backbone, method, setting)
            for count in some:
                yield case(model, count, setting, {"model": backbone, "method": method})
        if setting.wants("cocoop"):
            batches = (setting.batch,) if setting.batch else (1, 2) if setting.quick else BATCHES
            model = made(backbone, "cocoop", setting)
            for count in some:
                yield case_by_image(model, count, batches, setting, {"model": backbone, "method": "cocoop"})


def made(backbone: str, method: str, setting: Setting, **options: Any) -> vpt.Prompted:
    """A model in training mode, whose classes are to be set."""
    torch.manual_seed(0)
    model = vpt.create(backbone, method, classes=["thing"], pretrained=False, **options)
    return model.to(setting.device).train()


def class_names(count: int) -> list[str]:
    """So many of ImageNet's, from all over the list, in which alike ones are neighbours."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    names: list[str] = []
    for name in IMAGENET_CLASSNAMES:
        # Two names stand for two classes each, and a model takes each name once.
        names.append(f"other {name}" if name in names else name)
    return names[:: len(names) // count][:count]


def case(model: vpt.Prompted, count: int, setting: Setting, facts: dict[str, Any]) -> Case:
    """A step with `count` classes in both forms, where the plain one fits into memory, and a pass without gradients."""
    batch = setting.batch or BATCH
    features, labels = images(model, batch, count, setting)
    needed = plain_bytes(model, count, features)
    model.set_classes(class_names(count))
    compiled, setting = setting.compiled, replace(setting, compiled=False)
    step = step_run(model, model, features, labels, setting)
    runs = {"forward": forward_run(model, features, setting), "step": step}
    if compiled:
        runs["compiled step"] = with_compiled_loop(model, step)
    fits = needed <= (0.7 * torch.cuda.mem_get_info()[1] if setting.device == "cuda" else MEMORY)
    if fits:
        runs["plain step"] = step_run(model, plain(model), features, labels, setting)
    facts = facts | {"classes": count, "context": model.method.num_context, "batch": batch}
    return Case(
        facts=facts,
        runs=runs,
        ratios=[ratio for ratio in ratios(facts, setting) if {ratio.over, ratio.under} <= runs.keys()],
        items=batch,
        constants=[*model.parameters(), *model.buffers()],
        budget=BUDGET,
        note=""
        if fits
        else f"With {count} classes the plain form keeps {needed / 1e9:.0f} GB for the backward pass: it was not run.",
    )


def ratios(facts: dict[str, Any], setting: Setting) -> list[Ratio]:
    """What is read from the runs; the limit is one forward and one backward pass of the tower on the cut texts."""
    aimed = setting.has_targets and facts["model"] in BACKBONES and facts["classes"] == 100
    coop = facts["method"] == "coop"
    aimed &= not coop or facts["context"] == 16
    speed, share = (COOP if coop else OTHERS, SAVED if coop else None) if aimed else (None, None)
    return [
        Ratio("step / limit", "step", "forward", times=2),
        Ratio("compiled step / step", "compiled step", "step"),
        Ratio("plain step / step", "plain step", "step", at_least=speed),
        Ratio("FLOPs: step / limit", "step", "forward", times=2, of="flops"),
        Ratio("FLOPs: plain step / step", "plain step", "step", of="flops"),
        Ratio("saved bytes: step / plain step", "step", "plain step", of="saved", at_most=share),
    ]


def case_by_image(
    model: vpt.Prompted, count: int, batches: Sequence[int], setting: Setting, facts: dict[str, Any]
) -> Case:
    """Steps of batches in which each image has texts of its own, against one image at a time.

    The plain form is what published code does for one image after another: a batch of B costs B times a step of one,
    which is measured once beside all batches, as it takes long.
    """
    setting = replace(setting, compiled=False)
    features, labels = images(model, max(batches), count, setting)
    model.set_classes(class_names(count))
    one = "plain step of one image"
    runs = {one: replace(step_run(model, plain(model), features[:1], labels[:1], setting), eager=None, items=1)}
    found: list[Ratio] = []
    for batch in batches:
        step, forward, some = f"step of {batch}", f"forward of {batch}", features[:batch]
        run = step_run(model, model, some, labels[:batch], setting)
        runs[step] = replace(run, eager=run.eager if batch <= COUNTED else None, items=batch)
        aimed = setting.has_targets and facts["model"] in BACKBONES and (count, batch) == (100, 8)
        found += [
            Ratio(f"one at a time / step of {batch}", one, step, times=1 / batch, at_least=OTHERS if aimed else None),
            Ratio(f"saved bytes: step of {batch} / one at a time", step, one, times=batch, of="saved"),
        ]
        if batch <= COUNTED:
            runs[forward] = replace(forward_run(model, some, setting), items=batch)
            found.append(Ratio(f"step of {batch} / limit", step, forward, times=2))
    return Case(
        facts=facts | {"classes": count, "context": model.method.num_context},
        runs=runs,
        ratios=found,
        items=max(batches),
        constants=[*model.parameters(), *model.buffers()],
        budget=BUDGET,
    )


def images(model: vpt.Prompted, batch: int, count: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """Features of images as they would be cached (B, F), and labels."""
    features = torch.randn(batch, model.tower.num_features, device=setting.device)
    return features, torch.arange(batch, device=setting.device) % count


def plain(model: vpt.Prompted) -> Callable[[Tensor], Tensor]:
    """The model's definition: every token of every text is advanced, padding included, as the papers' code does it."""
    return lambda features: model.outputs(features, plain=True, frozen=False).logits


def plain_bytes(model: vpt.Prompted, count: int, features: Tensor) -> float:
    """What the plain form keeps for the backward pass of `count` classes, told from few: each takes the same."""
    constants = [*model.parameters(), *model.buffers()]
    kept = []
    for few in (2, 3):
        model.set_classes(class_names(few))
        kept.append(saved_bytes(lambda: plain(model)(features).sum(), constants))
    return kept[0] + (kept[1] - kept[0]) * (count - 2)


def with_compiled_loop(model: vpt.Prompted, step: Run) -> Run:
    """`step` through the block loop as `vpt.fit(…, compile=True)` has it.

    What a text is cut to is read from the texts themselves, before that: the whole of a step would be no one graph.
    """

    def call() -> None:
        side = model.text
        assert side is not None
        bare, side.loop = side.loop, loop
        try:
            step.call()
        finally:
            side.loop = bare

    loop = torch.compile(encode_texts, fullgraph=True, dynamic=False)
    return Run(call)


def forward_run(model: vpt.Prompted, features: Tensor, setting: Setting) -> Run:
    """The texts of the classes, cut and with a shared beginning, without gradients."""
    assert model.method.template is not None
    assert model.text is not None
    ids = model.tokenize([model.method.template.format(name) for name in model.classes])
    texts = model.text.plan(model.method, ids)
    image = F.normalize(features, dim=-1) if model.method.conditional else None

    @torch.no_grad()
    def call() -> Tensor:
        with setting.autocast():
            return model.encode_text(texts, image)

    return Run(call=call, eager=call)
