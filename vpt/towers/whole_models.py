"""What each library calls the features of an image: pooled, and before the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vpt.errors import VptError
from vpt.preprocessing import Preprocessing
from vpt.towers.backbone import Backbone
from vpt.towers.base import without
from vpt.towers.whole import WholeTower, replaced, without_classifier

# Facts of images that nothing tells of a module of no library.
NEEDED = ("size", "mean", "std")

# Names that torchvision has for classifiers, and for heads of training.
CLASSIFIERS = ("fc", "classifier", "head", "heads")
AUXILIARY = ("AuxLogits", "aux1", "aux2")


def whole_timm(model: Any, why: str, size: tuple[int, int]) -> WholeTower:
    """Any image model of timm: `forward_features` and `forward_head` up to the classifier, which is left out."""
    if not all(hasattr(model, name) for name in ("forward_features", "forward_head")):
        raise VptError(f"this {type(model).__name__} of timm has no pooled features: make it without features_only.")
    if getattr(model, "global_pool", None) == "":
        raise VptError(f"this {type(model).__name__} cannot be used: it was made without pooling; name a global_pool.")
    config = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    view = without(model)
    for path in [names] if isinstance(names, str) else names:
        if _is_there(view, path):
            view = replaced(view, path)
    return WholeTower(view, _timm_features, why, size=size, fixed=bool(config.get("fixed_input_size")))


def _timm_features(model: Any, images: Tensor) -> Any:
    return model.forward_head(model.forward_features(images), pre_logits=True)


def _is_there(model: nn.Module, path: str) -> bool:
    try:
        return isinstance(model.get_submodule(path), nn.Module)
    except AttributeError:
        return False


def whole_open_clip(visual: Any, why: str, size: tuple[int, int]) -> WholeTower:
    """Any image tower of open_clip: what `encode_image` gives before it is normalised."""
    trunk = getattr(visual, "trunk", None)
    # The positions of a ResNet's attention pooling are those of one size.
    fixed = trunk is None or bool((getattr(trunk, "pretrained_cfg", None) or {}).get("fixed_input_size"))
    return WholeTower(visual, _called, why, size=size, fixed=fixed)


def _called(model: Any, images: Tensor) -> Any:
    found = model(images)
    # CoCa's image tower gives its tokens too.
    return found[0] if isinstance(found, tuple) else found


# Models of transformers without a pooler, whose classifiers read the class token.
CLASS_TOKEN = ("PvtModel",)


def whole_torchvision(model: nn.Module, why: str, size: tuple[int, int]) -> WholeTower:
    """Any classifier of torchvision: what its last linear layer is given."""
    return WholeTower(without_heads(model), _called, why, size=size)


def without_heads(model: nn.Module) -> Any:
    """A view of torchvision's model without its classifier, and the heads of training that Inception has."""
    view = without_classifier(model, *CLASSIFIERS)
    for name in AUXILIARY:
        if hasattr(view, name):
            view = without(view, name)
            view.aux_logits = False
    return view


def whole_hf(model: Any, why: str, size: tuple[int, int]) -> WholeTower:
    """Any image model of transformers: features in the space shared with text, or what its pooler gives.

    Of a model for classification they are what the classifier is given; of feature maps without a pooler their mean.
    """
    if hasattr(model, "get_image_features"):
        return WholeTower(model, _hf_shared, why, size=size)
    if "ForImageClassification" in type(model).__name__:
        return WholeTower(without_classifier(model, "classifier", "head"), _hf_logits, why, size=size)
    return WholeTower(model, _hf_pooled, why, size=size)


def _hf_shared(model: Any, images: Tensor) -> Any:
    found = model.get_image_features(pixel_values=images)
    return found if isinstance(found, Tensor) else found.pooler_output


def _hf_logits(model: Any, images: Tensor) -> Any:
    return model(pixel_values=images).logits


def _hf_pooled(model: Any, images: Tensor) -> Any:
    found = model(pixel_values=images)
    for name in ("image_embeds", "pooler_output"):
        if getattr(found, name, None) is not None:
            return getattr(found, name)
    tokens = found.last_hidden_state
    if tokens.ndim == 4:
        return tokens.mean(dim=(2, 3))
    return tokens[:, 0] if type(model).__name__ in CLASS_TOKEN else tokens


def whole_module(model: nn.Module, given: Preprocessing | Mapping[str, Any] | None) -> Backbone:
    """The tower of any module that makes features (B, F) of images, e.g. one of torch.hub.

    Args:
        model: called with images (B, 3, H, W).
        given: what it was trained to see.

    Raises:
        VptError: nothing says what it was trained to see, or it makes something else of images.
    """
    values = given.to_dict() if isinstance(given, Preprocessing) else dict(given or {})
    missing = [name for name in NEEDED if name not in values]
    if missing:
        raise VptError(
            f"a {type(model).__name__} does not say what images it was trained on: give preprocessing={{…}} with "
            f"{', '.join(missing)}."
        )
    found = Preprocessing((1, 1)).changed(values)
    why = f"what is between the blocks of a {type(model).__name__} is not known to vpt"
    return Backbone(WholeTower(without(model), _called, why, size=found.size), found, None, {})
