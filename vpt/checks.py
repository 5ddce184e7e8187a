"""What every method is held to, as one call without pytest."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vpt.assemble import MethodLike, attach, load
from vpt.methods import called, find
from vpt.model import Prompted
from vpt.options import options_of

TOLERANCE = 1e-10


def check_method(
    method: MethodLike,
    make: Callable[[], nn.Module] | None = None,
    *,
    images: Tensor | None = None,
    **options: Any,
) -> dict[str, float]:
    """Put a method through what every one is held to, in float64 on a small backbone.

    1. The fast form equals the definition (`plain=True`), in values and gradients, and does not depend on the batch.
    2. With everything folded for inference (`compile_prompts`) it is the same.
    3. Training reaches all that is learned, and leaves every other tensor bitwise as it was.
    4. What is saved is what is loaded, with the same predictions.
    5. Options have types.

    Args:
        method: a class made from `vpt.Method`, a name, or a list for a combination.
        make: a backbone, the same at every call; by default a small Vision Transformer of timm, or a small CLIP of
            open_clip for a method that classifies by class names.
        images: (B, 3, H, W) that it takes; random ones by default.
        options: of the method.

    Returns:
        The largest error of each check, by its name.

    Raises:
        AssertionError: one fails; which, and by how much.
    """
    # It raises an error of an option without a type.
    options_of(find(called(method)[0]))
    make = make or _maker(method)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) if images is None else images
    images = images.double()
    model = _moved(_made(make, method, options, images))
    found = {"fast and plain form": _check_forms(model, images), "batch": _check_batch(model, images)}
    found["folded"] = _check_folded(model, images)
    _check_training(_moved(_made(make, method, options, images)), images)
    found["saved and loaded"] = _check_saved(_moved(_made(make, method, options, images)), make, images)
    return found


def _maker(method: MethodLike) -> Callable[[], nn.Module]:
    kind = find(called(method)[0])

    def vit() -> nn.Module:
        import timm

        sizes: Mapping[str, Any] = {"embed_dim": 24, "depth": 3, "num_heads": 3, "patch_size": 8, "img_size": 32}
        return _shaken(lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False, **sizes))

    def clip() -> nn.Module:
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        vision = CLIPVisionCfg(layers=3, width=24, head_width=8, patch_size=8, image_size=32, mlp_ratio=2.0)
        text = CLIPTextCfg(context_length=20, vocab_size=49408, width=16, heads=2, layers=3)
        return _shaken(lambda: CLIP(embed_dim=128, vision_cfg=vision, text_cfg=text))

    return clip if kind.head == "text" else vit


def _shaken(make: Callable[[], nn.Module]) -> nn.Module:
    """The same model at every call, with every parameter away from its initial value."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def _made(make: Callable[[], nn.Module], method: MethodLike, options: Mapping[str, Any], images: Tensor) -> Prompted:
    torch.manual_seed(1)
    model = attach(make(), method, classes=["dog", "cat", "ship"], **options).double()
    if model.needs_images:
        model.initialise(images)
    if model.method.classifier.needs_teacher:
        model.teach(attach(make(), "zero-shot", classes=model.classes).double())
    with torch.no_grad():
        model.prepare(images, _labels(images))
    return model


def _moved(model: Prompted) -> Prompted:
    """With what begins at zero away from it, so that every check can fail."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return model


def _labels(images: Tensor) -> Tensor:
    return torch.arange(len(images)) % 3


def _apart(what: str, got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape, f"{what}: {tuple(got.shape)} in place of {tuple(expected.shape)}"
    error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1.0)) if got.numel() else 0.0
    assert error <= TOLERANCE, f"{what}: {error:.1e} apart, and {TOLERANCE:.0e} is allowed"
    return error


def _logits(model: Prompted, images: Tensor, *, plain: bool) -> Tensor:
    if model.head is None:
        return model.outputs(images, plain=plain).logits
    found: Tensor = model.head(model.features(images, plain=plain))
    return found


def _check_forms(model: Prompted, images: Tensor) -> float:
    found = []
    for plain in (False, True):
        # Without dropout, of which each form may draw its own.
        logits = _logits(model.eval(), images, plain=plain)
        learned = [parameter for group in model.parameter_groups().values() for parameter in group]
        gradients = torch.autograd.grad(logits.square().sum(), learned, allow_unused=True) if learned else ()
        found.append([logits.detach(), *(gradient for gradient in gradients if gradient is not None)])
    assert len(found[0]) == len(found[1]), "a gradient is there in one form and not in the other"
    pairs = zip(*found, strict=True)
    return max(_apart("the fast form and the definition", fast, plain) for fast, plain in pairs)


@torch.no_grad()
def _check_batch(model: Prompted, images: Tensor) -> float:
    model.eval()
    return _apart("an image's logits depend on its batch", model(images[:1]), model(images)[:1])


@torch.no_grad()
def _check_folded(model: Prompted, images: Tensor) -> float:
    expected = model.eval()(images)
    return _apart("compile_prompts changes what is predicted", model.compile_prompts()(images), expected)


def _check_training(model: Prompted, images: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in model.frozen_state().items()}
    groups = model.train().parameter_groups()
    if not groups:
        return
    model.loss((images, _labels(images))).backward()
    # What is trained in a later stage, such as the rows of a classifier, waits for it.
    staged = model.method.classifier.stages(4)
    waiting = {id(p) for name, (first, _) in staged.items() if first for p in groups.get(name, [])}
    learned = [(name, p) for name, p in model.method.named_parameters() if p.requires_grad and id(p) not in waiting]
    lost = [name for name, p in learned if p.grad is None or not p.grad.any()]
    assert not lost, f"no gradient reaches {', '.join(lost)}"
    torch.optim.SGD([parameter for group in groups.values() for parameter in group], lr=0.1).step()
    changed = [name for name, tensor in model.frozen_state().items() if not torch.equal(tensor, before[name])]
    assert not changed, f"training changed {', '.join(changed[:3])} of the frozen backbone"


def _check_saved(model: Prompted, make: Callable[[], nn.Module], images: Tensor) -> float:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.float().eval().save_pretrained(Path(folder) / "model")
        loaded = load(Path(folder) / "model", backbone=make())
        return _apart("what is loaded predicts otherwise", loaded.eval()(images.float()), model(images.float()))
