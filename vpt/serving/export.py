"""A tuned model as one file that runs without this package: an ONNX model, or a program of torch.export."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vpt import saving
from vpt.errors import VptError
from vpt.files import make_folder, replacing, write
from vpt.model import Prompted
from vpt.modes import evaluating
from vpt.normalised import normalised
from vpt.predict import ImageLike, as_picture
from vpt.preprocessing import transformed
from vpt.serving.merging import merge
from vpt.serving.pixels import pixels, resizing

Input = Literal["uint8", "float32"]

KINDS = {".onnx": "ONNX", ".pt2": "torch.export"}
NEEDED = ("onnx", "onnxruntime", "onnxscript")
# Where the facts stand in the file itself.
FACTS = "vpt.json"
# How far probabilities may lie from the model's: of rounding in another order of sums.
TOLERANCE = 1e-3
HALF_TOLERANCE = 3e-2
# What one file of protobuf can hold, in bytes.
LARGEST_ONNX = 2_000_000_000


class _Scale(nn.Module):
    """Of a text side what is left where the features of the classes are constants."""

    def __init__(self, side: Any) -> None:
        super().__init__()
        self.tower = nn.Identity()
        self.logit_scale, self.logit_bias = (
            None if value is None else nn.Parameter(value.detach().float().cpu(), requires_grad=False)
            for value in (side.logit_scale, side.logit_bias)
        )

    def scale(self) -> Tensor:
        """As `TextSide.scale`."""
        assert self.logit_scale is not None
        return self.logit_scale.exp()


class Program(nn.Module):
    """Pixels to what a model says of them, with all that does not depend on them computed before.

    Args:
        model: whose values are copied, in float32 on the CPU.
        given: "uint8", bytes (B, H, W, 3) from 0 to 255, or "float32", numbers (B, 3, H, W) from 0 to 1.
    """

    text: Tensor | None
    mean: Tensor
    std: Tensor

    def __init__(self, model: Prompted, given: Input) -> None:
        super().__init__()
        self.given = given
        text = None
        slim: nn.Module | None = None
        if model.text is not None:
            slim = _Scale(model.text)
            with torch.no_grad():
                text = model.class_features(lengths=True).float().cpu() if model.classes else None
        # The text encoder has said all that it has to say.
        copied: Prompted = copy.deepcopy(model, {id(model.text): slim}).cpu().float().eval()
        copied.requires_grad_(False)
        self.merged = merge(copied.tower, copied.method)
        self.model = copied.compile_prompts()
        self.register_buffer("text", text)
        mean, std = (torch.tensor(values) for values in (model.preprocessing.mean, model.preprocessing.std))
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits and probabilities (B, C); without classes L2-normalised features (B, F)."""
        if self.given == "uint8":
            images = images.permute(0, 3, 1, 2).float() / 255
        images = (images - self.mean) / self.std
        if self.model.head is None and self.text is None:
            return (normalised(self.model.features(images)),)
        if self.model.head is not None:
            logits = self.model(images)
        else:
            logits = self.model.outputs(images, frozen=False, text=self.text).logits
        return logits, logits.softmax(-1)

    @property
    def outputs(self) -> list[str]:
        """Names of what `forward` gives."""
        return ["features"] if self.model.head is None and self.text is None else ["logits", "probabilities"]


@torch.no_grad()
def export(
    model: Prompted,
    path: str | Path,
    *,
    images: Sequence[ImageLike] | None = None,
    input: Input = "uint8",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model as one file that runs without this package, and check it against the model.

    What does not depend on the image is a constant of the file: keys and values of prompts that are only attended to,
    and the features of class names. What is linear in a block is merged into its weights, and what is not needed any
    more is left out. Batches have any size. The file is float32 for the CPU and for accelerators.

    Args:
        model: any but those whose texts depend on the image.
        path: "….onnx" for ONNX, which needs the extra `export`, or "….pt2" for `torch.export.load`.
        images: files, pictures or arrays that the file is checked with; noise by default.
        input: "uint8" for bytes (B, H, W, 3), RGB from 0 to 255, or "float32" for (B, 3, H, W) from 0 to 1; both as
            large as the model takes them. They are normalised inside.
        overwrite: whether a file that is there may be written over.

    Returns:
        The facts that stand in the file, and beside it as JSON: "input", "output", "classes", "resize" (what is done
        with a picture before), "checked" (how many images, and how far probabilities or features lie apart), and so on.

    Raises:
        VptError: the path ends otherwise, or something is there; the method's texts depend on the image; a library is
            missing; or what the file says is not what the model says.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".json")
    check_path(path, overwrite=overwrite)
    if model.method.conditional:
        raise VptError(
            f"{model.method.name} cannot be exported: the features of its class names depend on each image, so that "
            "the text encoder would have to be in the file; export a model of another method, such as coop."
        )
    with evaluating(model):
        pictures = _pictures(model, images)
        expected = _expected(model, pictures)
        program = Program(model, input)
        given = _given(pictures, model, input)
        traced = _traced(program, torch.from_numpy(given[:2].repeat(2, 0)[:2]))
        facts = _facts(model, program, input, len(pictures), real=images is not None)
        make_folder(path.parent)
        with replacing(path) as new:
            run = (_write_onnx if path.suffix == ".onnx" else _write_program)(traced, new, program, facts)
            apart, differ = _apart(run(given), expected, model)
            facts["checked"] |= {"largest difference": apart, "other labels": differ}
            if apart > _tolerance(model) or differ:
                what = "probabilities" if model.classes else "features"
                raise VptError(
                    f"what was exported does not say what the model says ({what} up to {apart:.2g} apart, {differ} of "
                    f"{len(pictures)} images with another label): nothing was written; try the other kind of file."
                )
        write(beside, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return facts


def check_path(path: Path, *, overwrite: bool) -> None:
    """Nothing, if a file of this name can be written here.

    Raises:
        VptError: it ends otherwise than files that can be, something is there, or a library is missing.
    """
    if path.suffix not in KINDS:
        raise VptError(f"{path} is no name of an exported model: let it end in .onnx, or in .pt2 for torch.export.")
    for each in (path, path.with_name(path.name + ".json")):
        saving.check_out(each, overwrite=overwrite)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise VptError(
            f"ONNX files need {' and '.join(missing)}: pip install 'visual-prompt-tuning[export]', or write .pt2."
        )


def _pictures(model: Prompted, images: Sequence[ImageLike] | None) -> list[Image.Image]:
    if images is not None and not len(images):
        raise VptError("there are no images to check the exported file with: give some, or images=None for noise.")
    if images is None:
        height, width = model.preprocessing.size
        noise = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), dtype=np.uint8)
        return [Image.fromarray(each) for each in noise]
    return [as_picture(image) for image in images]


def _expected(model: Prompted, pictures: Sequence[Image.Image]) -> np.ndarray:
    """What the model says of pictures by its own transform: probabilities, or features where it has no classes."""
    transform, device = model.preprocessing.transform(), next(model.parameters()).device
    batch = torch.stack([transformed(transform, picture, lambda: "an image") for picture in pictures]).to(device)
    found = model(batch).float().softmax(-1) if model.classes else normalised(model.features(batch).float())
    return found.cpu().numpy()


def _given(pictures: Sequence[Image.Image], model: Prompted, given: Input) -> np.ndarray:
    how = resizing(model.preprocessing)
    batch = np.stack([pixels(picture, how) for picture in pictures])
    return batch if given == "uint8" else (batch.transpose(0, 3, 1, 2) / 255).astype(np.float32)


def _traced(program: Program, images: Tensor) -> torch.export.ExportedProgram:
    """The graph for batches of any size, without the weights that it does not need."""

    def trace() -> torch.export.ExportedProgram:
        batch = torch.export.Dim("batch", min=1)
        return torch.export.export(program, (images,), dynamic_shapes=({0: batch},), strict=False)

    with _quiet():
        first = trace()
        used = {node.name for node in first.graph.nodes if node.op == "placeholder" and node.users}
        signature = first.graph_signature
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        spare = [target for name, target in named.items() if name not in used]
        for target in spare:
            owner, _, name = target.rpartition(".")
            module = program.get_submodule(owner)
            empty = torch.empty(0, dtype=getattr(module, name).dtype)
            setattr(module, name, nn.Parameter(empty, requires_grad=False) if name in module._parameters else empty)
        return trace() if spare else first


def _write_onnx(
    traced: torch.export.ExportedProgram, path: Path, program: Program, facts: dict[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    size = sum(tensor.numel() * tensor.element_size() for tensor in traced.state_dict.values())
    if size > LARGEST_ONNX:
        raise VptError(f"the model has {size / 1e9:.1f} GB, and one ONNX file holds 2: write a .pt2 file.")
    import onnxruntime

    with _quiet():
        found = torch.onnx.export(
            traced,
            input_names=["images"],
            output_names=program.outputs,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert found is not None
        for node in found.model.graph.all_nodes():
            # Where in which source each was traced: more than the graph itself.
            node.metadata_props.clear()
        found.model.metadata_props[FACTS] = json.dumps(facts, ensure_ascii=False)
        found.save(path, external_data=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([program.outputs[-1]], {"images": images})[0]


def _write_program(
    traced: torch.export.ExportedProgram, path: Path, program: Program, facts: dict[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    # By a file in hand: the writer would have the name end in .pt2, and this one does not yet.
    with _quiet(), path.open("wb") as file:
        torch.export.save(traced, file, extra_files={FACTS: json.dumps(facts, ensure_ascii=False)})
    with _quiet(), path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda images: module(torch.from_numpy(images))[-1].numpy()


def _apart(found: np.ndarray, expected: np.ndarray, model: Prompted) -> tuple[float, int]:
    """The largest difference, and how many images got another label although the model is sure enough of its own."""
    apart = float(np.abs(found - expected).max())
    if not model.classes or len(model.classes) < 2:
        return apart, 0
    top = np.sort(expected, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * _tolerance(model)
    return apart, int(((found.argmax(1) != expected.argmax(1)) & clear).sum())


def _tolerance(model: Prompted) -> float:
    half = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    return HALF_TOLERANCE if half else TOLERANCE


def _facts(model: Prompted, program: Program, given: Input, count: int, *, real: bool) -> dict[str, Any]:
    height, width = model.preprocessing.size
    bytes_ = {"layout": ["batch", height, width, 3], "values": "red, green, blue from 0 to 255"}
    numbers = {"layout": ["batch", 3, height, width], "values": "red, green, blue from 0 to 1"}
    return {
        "input": {"name": "images", "type": given, **(bytes_ if given == "uint8" else numbers)},
        "output": program.outputs,
        "classes": list(model.classes),
        "resize": resizing(model.preprocessing),
        "normalised inside": {"mean": list(model.preprocessing.mean), "std": list(model.preprocessing.std)},
        "method": model.recipe["method"],
        "backbone": model.recipe["backbone"]["name"],
        "merged stages": program.merged,
        "checked": {"images": count, "of": "the data" if real else "noise"},
        "versions": saving.versions(),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of themselves on the way."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
