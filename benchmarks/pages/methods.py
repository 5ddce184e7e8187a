"""The page of each method, and the table of all of them."""

from __future__ import annotations

import math
import re
from pathlib import Path

from benchmarks.pages.facts import CLASSES, ROOT, Facts, model
from benchmarks.pages.notes import NOTES
from benchmarks.pages.schema import Schema
from vpt.errors import VptError
from vpt.methods.base import Method

BEGIN = "<!-- written by python -m benchmarks.pages -->"
END = "<!-- until here -->"


def files(facts: Facts) -> dict[str, str]:
    """The page and the picture of a method, by their names below docs/methods."""
    picture, said = Schema(facts).draw()
    return {f"{facts.page}.svg": picture, f"{facts.page}.md": page(facts, said, costs(facts))}


def page(facts: Facts, said: list[str], cost: list[tuple[str, str]]) -> str:
    """Idea, picture, when, options, cost, the paper's setting."""
    note, kind = NOTES[facts.name], facts.kind
    paper = f"[{kind.source}]({facts.link})" if kind.source and facts.link else kind.source
    where = f"`{facts.file}`"
    parts = [
        f"# {facts.name}",
        f"{BEGIN}\n\n{' · '.join(each for each in (sentence(note.learned), paper, where) if each)}",
        f"![{facts.name}: {'; '.join(said) or 'nothing is learned in the encoders'}]({facts.page}.svg)",
        facts.idea,
    ]
    if said:
        parts.append("\n".join(f"- {sentence(each)}" for each in said))
    parts += [
        "## When",
        f"**When to take it**: {_small(note.take)}",
        f"**When it fails**: {_small(note.fails)}",
        "## Options",
        _options(facts),
        "## Cost",
        "| | |\n| --- | --- |\n" + "\n".join(f"| {what} | {value} |" for what, value in cost),
        "## As in the paper",
        _papers(facts),
        "## Try it",
        f"```sh\n{trial(facts)}\n```",
        "All methods: [the table](../methods.md). Which one: [choosing](../choosing.md).",
    ]
    return "\n\n".join(parts) + "\n"


def trial(facts: Facts) -> str:
    """A command that trains it, on the small models that come with the package."""
    train = "vpt train own_images data.path=photos"
    given = {
        "dept": "method=kgcoop+dept",
        # The small model sees 48 pixels a side.
        "pixel": "method=pixel method.size=6",
        "promptkd": "data.unlabelled=new_photos method=promptkd method.teacher=runs/teacher",
    }
    last = f"{train} {given.get(facts.name, f'method={facts.name}')} out=runs/{facts.page}"
    return f"{train} method=promptsrc out=runs/teacher\n{last}" if facts.name == "promptkd" else last


def _options(facts: Facts) -> str:
    rows = [f"| `{name}` | `{default}` | {sentence(told)} |" for name, default, told in facts.options()]
    if not rows:
        return "None."
    return "\n".join(["| option | default | what |", "| --- | --- | --- |", *rows])


def sentence(text: str) -> str:
    """With a capital, and `|` as Markdown's tables want it."""
    text = text.replace("|", "\\|")
    return text[:1].upper() + text[1:] if not text.startswith("`") else text


def _small(text: str) -> str:
    first = text.split()[0]
    return text if first in ("CLIP",) or first.startswith("`") else text[:1].lower() + text[1:]


def costs(facts: Facts) -> list[tuple[str, str]]:
    """What it trains, saves and takes."""
    note, method = NOTES[facts.name], facts.shown.method
    rows = []
    titles = {"linear": "tuned on ViT-B/16, beside the head", "text": "tuned on CLIP ViT-B/16, class names"}
    rows += [(title, _tuned(facts, head, note.more)) for head, title in titles.items() if head in facts.heads]
    saved = [_size(4 * facts.tuned)] if facts.tuned or not note.more else []
    saved += ["2 KB " + note.more.partition(" ")[2]] if note.more else []
    rows.append(("saved, in float32", " and ".join(saved)))
    taken = facts.operations()
    if taken is not None and method.prompts_image:
        merged = _merged(method)
        also = "; 1.000 after `model.compile_prompts()`" if merged else ""
        rows.append(("operations of the image encoder, predicting", f"{taken:.3f} times the frozen encoder's{also}"))
    rows.append(("in training", _training(facts)))
    rows.append(("new class names after training", _new_classes(method)))
    rows.append(("captions (retrieval)", f"no: {method.why_no_captions}" if method.why_no_captions else "yes"))
    return rows


def _merged(method: Method) -> bool:
    changes = method.changes("image")
    return bool(changes) and all(change.linear for change in changes) and not method.image_prompts.enters


def _tuned(facts: Facts, head: str, more: str) -> str:
    counts = [model(facts.name, head, classes).num_tuned(head=head == "text") for classes in (CLASSES, 2 * CLASSES)]
    slope = (counts[1] - counts[0]) // CLASSES
    rest = counts[0] - slope * CLASSES
    grows = f"{slope} a class" if slope else more
    if not grows:
        return f"{rest:,}"
    return f"{rest:,} and {grows}" if rest else grows


def _size(count: int) -> str:
    """Bytes, for people."""
    if count < 1024:
        return f"{count} bytes"
    unit = int(math.log(count, 1024))
    return f"{count / 1024**unit:.3g} {('', 'KB', 'MB')[unit]}"


def _training(facts: Facts) -> str:
    shown, method = facts.shown, facts.shown.method
    inside = bool(list(method.tuned(shown.tower, None if shown.text is None else shown.text.tower)))
    projection = facts.name == "prolip"
    if method.conditional:
        return "image features are computed once; the texts of all classes go through the text encoder for each image"
    if (not method.prompts_image and not inside) or projection:
        what = "features of images are computed once, where they are not augmented anew in each epoch"
        return f"{what}; texts go through the text encoder in each step" if method.prompts_text else what
    if method.side_network is not None:
        return "a forward pass of the encoder, and a backward pass of the side network alone"
    both = " of both encoders" if method.prompts_text else ""
    return f"a forward and a backward pass{both}"


def _new_classes(method: Method) -> str:
    try:
        method.check_new_classes()
    except VptError as error:
        return f"no: {error}"
    if type(method).head == "linear":
        return "with class names as the classifier (`head: text`)"
    rows = getattr(method.classifier, "chosen", None)
    return "judged by their texts; trained ones keep what they learned" if rows else "yes"


def _papers(facts: Facts) -> str:
    found = []
    for path in facts.configs():
        said = comment(path)
        name = path.relative_to(ROOT).as_posix()
        lines = [f"`{said['command']}`"]
        lines += [f"{key}: {said[key]}" for key in ("Aims at", "Not checked", "Differs") if key in said]
        found.append(f"**`{name}`**\n\n" + "\n".join(f"- {line}" for line in lines))
    return "\n\n".join(found) or "No config: there is nothing of its own to set."


def comment(path: Path) -> dict[str, str]:
    """What the comment at the head of a config says, by its paragraphs' first words; "command" is its first line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    text = "\n".join(lines[1:])
    parts = re.split(r"^(Aims at|Checked against|Not checked|Differs): ", text, flags=re.M)
    told = {key: " ".join(what.split()) for key, what in zip(parts[1::2], parts[2::2], strict=True)}
    return {"command": lines[0], **told}


def tables(everything: list[Facts], below: str) -> str:
    """Both tables: of image encoders, and of image-text models; `below` leads from a page to those of methods."""
    images = [each for each in everything if each.kind.head == "linear"]
    texts = [each for each in everything if each.kind.head == "text"]
    return "\n\n".join(
        [
            BEGIN,
            _table(images, below, "tuned on ViT-B/16"),
            "For image-text models, with class names as the classifier:",
            _table(texts, below, "tuned on CLIP ViT-B/16"),
            END,
        ]
    )


def _table(rows: list[Facts], below: str, tuned: str) -> str:
    lines = [f"| method | what is learned | {tuned} | source |", "| --- | --- | ---: | --- |"]
    for each in rows:
        mark = " ∘" if _merged(each.shown.method) else ""
        counted = _tuned(each, each.kind.head, NOTES[each.name].more)
        learned = NOTES[each.name].learned.replace("|", "\\|")
        lines.append(f"| [`{each.name}`]({below}{each.page}.md){mark} | {learned} | {counted} | {each.kind.source} |")
    return "\n".join(lines)
