"""The card of a tuned model: what it is, what it was measured at, how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

TEMPLATE = """---
{header}
---

# {method} on {backbone}

{tuned:,} tuned parameters ({share:.2%} of the whole model){purpose}.
The backbone is not in this folder; it is loaded by its name, and checked against the fingerprint
`{fingerprint}`.

```python
import vpt

model = vpt.load("{folder}")  # this folder, or its name on the hub
{use}
```

## Measured

{metrics}

## Made with

{versions}

Method options: {options}. Preprocessing: {preprocessing}.
"""


def card(facts: Mapping[str, Any], folder: str) -> str:
    """Markdown with the header that the Hugging Face hub reads, from what `vpt.json` holds."""
    classes = facts["classes"]
    header = ModelCardData(
        library_name="vpt",
        pipeline_tag="image-classification" if classes else "zero-shot-image-classification",
        tags=["visual-prompt-tuning", facts["method"]["name"]],
        base_model=_on_hub(facts["backbone"]["name"] or ""),
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
        folder=folder,
        metrics="\n".join(metrics) or "Nothing was measured.",
        versions="\n".join(versions),
        options=", ".join(f"{key}={value}" for key, value in options.items()) or "the defaults",
        preprocessing=", ".join(f"{key} {value}" for key, value in facts["preprocessing"].items()),
    )


def _on_hub(backbone: str) -> str | None:
    """The hub's name of a backbone that is there by the name that it has here."""
    library, _, name = backbone.partition("/")
    if library == "timm" and "." in name:
        return backbone
    return name if library == "hf" and name.count("/") == 1 and not name.startswith((".", "~")) else None


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
