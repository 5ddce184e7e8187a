"""Visual and multimodal prompt tuning of frozen vision transformers and CLIP models."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpt import data
    from vpt.assemble import attach, create, load
    from vpt.engine.callbacks import Callback, Training
    from vpt.engine.evaluate import evaluate
    from vpt.engine.fit import fit
    from vpt.errors import VptError
    from vpt.methods.base import Method
    from vpt.model import Prompted
    from vpt.predict import Prediction
    from vpt.serving.bank import PromptBank
    from vpt.serving.export import export

if "ipykernel" in sys.modules:
    # Libraries import this, and in a notebook without widgets it warns; the bars of this package need none.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("tqdm.auto")

__version__ = "0.1.0"

_PUBLIC = {
    "Method": "vpt.methods.base:Method",
    "create": "vpt.assemble:create",
    "attach": "vpt.assemble:attach",
    "load": "vpt.assemble:load",
    "data": "vpt.data",
    "fit": "vpt.engine.fit:fit",
    "Callback": "vpt.engine.callbacks:Callback",
    "Training": "vpt.engine.callbacks:Training",
    "evaluate": "vpt.engine.evaluate:evaluate",
    "export": "vpt.serving.export:export",
    "Prompted": "vpt.model:Prompted",
    "Prediction": "vpt.predict:Prediction",
    "PromptBank": "vpt.serving.bank:PromptBank",
    "VptError": "vpt.errors:VptError",
}

__all__ = [
    "Callback",
    "Method",
    "Prediction",
    "PromptBank",
    "Prompted",
    "Training",
    "VptError",
    "attach",
    "create",
    "data",
    "evaluate",
    "export",
    "fit",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch and timm take seconds."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'vpt' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(import_module(module), attribute) if attribute else import_module(module)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
