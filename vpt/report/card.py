"""The card of a tuned model: what it is, what it was measured at, how it is loaded."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

TEMPLATE = """---
{header}
---

# {method} on {backbone}

{tuned:,} tuned parameters ({share:.2%} of the whole model){purpose}.
The backbone is not in this folder; it is loaded by its name, and checked against the fingerprint
`{fingerprint}`.{weights}

## How to use

```
pip install visual-prompt-tuning
```

```python
import vpt

model = vpt.load("{folder}")  # this folder, or its name on the hub
{use}
```

On the command line: `vpt predict {word} image.jpg`. What lies on the hub may change: `revision=COMMIT` pins it.

## Measured

{metrics}

## Made with

{made}

{versions}

Method options: {options}. Preprocessing: {preprocessing}.

## Licence

{licence}
"""

# What the hub calls figures of classification, which is what it shows.
HUB = {"top1": ("accuracy", "Top-1"), "top5": ("accuracy", "Top-5"), "mean_per_class": ("accuracy", "Mean per class")}


def card(facts: Mapping[str, Any], folder: str) -> str:
    """Markdown with the header that the Hugging Face hub reads, from what `vpt.json` holds."""
    classes, about = facts["classes"], facts.get("about", {})
    measured = _results(facts, about)
    header = ModelCardData(
        library_name="vpt",
        license=about.get("license"),
        pipeline_tag="image-classification" if classes else "zero-shot-image-classification",
        tags=["visual-prompt-tuning", facts["method"]["name"]],
        base_model=_on_hub(facts["backbone"]["name"] or ""),
        model_name=(folder if "/" in folder else f"{facts['method']['name']} {folder}") if measured else None,
        eval_results=measured or None,
    )
    shown = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
    use = 'model.predict("image.jpg")' if classes else 'model.set_classes(["a dog", "a cat"])'
    metrics = [f"- {name}: {_shown(value)}" for name, value in facts["metrics"].items()]
    versions = [f"- {name} {version}" for name, version in facts["versions"].items()]
    options = {key: value for key, value in facts["method"].items() if key != "name"}
    return TEMPLATE.format(
        header=header.to_yaml(),
        method=facts["method"]["name"],
        backbone=facts["backbone"]["name"] or "a live backbone",
        tuned=facts["parameters"]["tuned"],
        share=facts["parameters"]["tuned"] / facts["parameters"]["all"],
        purpose=f" for {len(classes)} classes: {shown}" if classes else " for images and texts",
        use=use,
        fingerprint=facts["backbone"]["fingerprint"],
        weights=_weights(facts["backbone"]),
        folder=folder,
        word=shlex.quote(folder),
        metrics="\n".join(metrics) or "Nothing was measured.",
        made=_made(about),
        versions="\n".join(versions),
        options=", ".join(f"{key}={value}" for key, value in options.items()) or "the defaults",
        preprocessing=", ".join(f"{key} {value}" for key, value in facts["preprocessing"].items()),
        licence=_licence(about),
    )


def _results(facts: Mapping[str, Any], about: Mapping[str, Any]) -> list[EvalResult]:
    """Figures on a named data set as the hub lists them."""
    data = about.get("data")
    if not data:
        return []
    kind = re.sub(r"[^a-z0-9]+", "-", data.lower()).strip("-") or "data"
    found = []
    for name, value in facts["metrics"].items():
        split, _, figure = name.partition("/")
        if figure in HUB and isinstance(value, int | float):
            kind_of, title = HUB[figure]
            found.append(
                EvalResult(
                    task_type="image-classification",
                    dataset_type=kind,
                    dataset_name=data,
                    dataset_split={"val": "validation"}.get(split, split),
                    metric_type=kind_of,
                    metric_name=f"{title} ({split})",
                    metric_value=round(float(value), 4),
                )
            )
    return found


def _weights(backbone: Mapping[str, Any]) -> str:
    file = backbone.get("weights")
    if not file:
        return ""
    return (
        f"\nIts weights were read from the file `{file['name']}` (SHA-256 `{file['digest']}`): say where yours lies, "
        "`vpt.load(…, weights=FILE)` or `--weights FILE`."
    )


def _made(about: Mapping[str, Any]) -> str:
    """The data, the command and the config, where they are known."""
    parts = [f"Data: {about['data']}."] if about.get("data") else []
    if about.get("command"):
        parts.append(f"Command: `{about['command']}`")
    if about.get("config"):
        text = yaml.safe_dump(about["config"], sort_keys=False, allow_unicode=True)
        parts.append(f"with `config.yaml`:\n\n```yaml\n{text}```")
    return "\n\n".join(parts) or "By hand: there is no config."


def _licence(about: Mapping[str, Any]) -> str:
    own = f"What was learned: {about['license']}." if about.get("license") else "None is named for what was learned."
    return f"{own} The backbone has its own, and so do the images."


def _on_hub(backbone: str) -> str | None:
    """The hub's name of a backbone that is there by the name that it has here."""
    library, _, name = backbone.partition("/")
    if library == "timm" and "." in name:
        return backbone
    return name if library == "hf" and name.count("/") == 1 and not name.startswith((".", "~")) else None


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
