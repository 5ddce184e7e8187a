"""PromptKD: its network and loss as written out, a teacher's features computed once, and classes without labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

import vpt
from tests.engine.test_capture import Drawn
from tests.engine.test_fit import QUIET
from tests.methods.test_adapters import CLASSES, clip, images
from tests.zoo import shaken
from vpt import VptError
from vpt.text import TextSide


def wider() -> CLIP:
    def make() -> CLIP:
        vision = CLIPVisionCfg(layers=1, width=32, head_width=8, patch_size=8, image_size=16, mlp_ratio=2.0)
        text = CLIPTextCfg(context_length=16, vocab_size=49408, width=16, heads=2, layers=1)
        return CLIP(embed_dim=20, vision_cfg=vision, text_cfg=text)

    return shaken(make).double()


def teacher(method: str = "ivlp", **options: Any) -> vpt.Prompted:
    torch.manual_seed(7)
    return vpt.attach(wider(), method, classes=["ant", "wasp"], **options).double().eval()


def made(**options: Any) -> vpt.Prompted:
    torch.manual_seed(3)
    model = vpt.attach(clip(), "promptkd", classes=CLASSES, **{"num_tokens": 2, "weight": 5.0, **options}).double()
    model.teach(teacher())
    return model.train()


def answers_of(pixels: Tensor) -> Tensor:
    of = teacher()
    of.set_classes(CLASSES)
    with torch.no_grad():
        return of(pixels)


def written_out(model: vpt.Prompted, pixels: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits and loss, from the plain form of the student's image encoder."""
    first, norm, _, second = model.method.student.network
    hidden = model.features(pixels, plain=True) @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + norm.eps).sqrt() * norm.weight + norm.bias
    features = F.normalize(hidden.relu() @ second.weight.T + second.bias, dim=-1)
    of = teacher()
    of.set_classes(CLASSES)
    logits = model.text.scale() * features @ of.class_features().detach().T
    wanted = (answers_of(pixels) / temperature).softmax(1)
    divergence = (wanted * (wanted.log() - (logits / temperature).log_softmax(1))).sum() / logits.numel()
    return logits, 5.0 * temperature**2 * divergence


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_values_gradients_and_twenty_steps_are_those_of_the_formula(temperature: float) -> None:
    fast, plain = made(temperature=temperature), made(temperature=temperature)
    learned = [[p for group in model.parameter_groups().values() for p in group] for model in (fast, plain)]
    assert sum(p.numel() for p in learned[0]) == 2 * 2 * 16 + 13 * 20 + 2 * 20 + 21 * 20
    updates = [torch.optim.SGD(parameters, lr=0.01, momentum=0.9) for parameters in learned]
    for step in range(20):
        pixels = images(seed=step)
        # What the labels say makes no difference.
        found = fast.loss((pixels, torch.tensor([0, 0, 0, 0])))
        _, expected = written_out(plain, pixels, temperature)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
        for loss, optimizer in zip((found, expected), updates, strict=True):
            optimizer.zero_grad()
            loss.backward()
        if not step:
            for ours, theirs in zip(*learned, strict=True):
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)
        for optimizer in updates:
            optimizer.step()
    for ours, theirs in zip(*learned, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)


def test_a_student_is_saved_without_its_teacher(tmp_path: Path) -> None:
    teacher().float().save_pretrained(tmp_path / "run/best")
    torch.manual_seed(3)
    # The teacher's backbone is a live one here, which a folder cannot bring.
    with pytest.raises(VptError, match="backbone"):
        vpt.attach(clip().float(), "promptkd", classes=CLASSES, teacher=str(tmp_path / "run"))
    model = made().float()
    model.recipe["method"]["teacher"] = str(tmp_path / "run")
    model.loss((images().float(), torch.zeros(4, dtype=torch.long))).backward()
    model.eval().save_pretrained(tmp_path / "student")
    assert "run" not in (tmp_path / "student/vpt.json").read_text().replace("trunk", "")
    again = vpt.load(tmp_path / "student", backbone=clip().float())
    torch.testing.assert_close(again(images().float()), model(images().float()))
    logits = again(images().float())
    again.set_classes(CLASSES[::-1])
    torch.testing.assert_close(again(images().float()), logits.flip(1))
    with pytest.raises(VptError, match="of the classes it was trained with, and of no others"):
        again.set_classes([*CLASSES, "wasp"])
    assert again.classes == tuple(CLASSES[::-1])


@pytest.mark.parametrize("views", [0, 2])
def test_the_teacher_sees_the_views_that_the_student_sees(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made().float()
    model.teach(teacher().float())
    (of,) = model._teacher
    passes = 0
    forward = type(of.tower).embed

    def counted(self: Any, *given: Any) -> Any:
        nonlocal passes
        passes += self is of.tower
        return forward(self, *given)

    monkeypatch.setattr(type(of.tower), "embed", counted)
    seen: list[Tensor] = []
    loss = type(model.method).loss

    def watched(self: Any, outputs: Any, labels: Tensor, smoothing: float) -> Tensor:
        seen.append(outputs.taught)
        return loss(self, outputs, labels, smoothing)

    monkeypatch.setattr(type(model.method), "loss", watched)
    run = {**QUIET, "epochs": 4, "batch_size": 5, "lr": 0.0, "augment": "crop", "drop_last": True, "warmup_epochs": 0}
    vpt.fit(model, Drawn(range(10)), **{**run, "views": views})
    # Two passes over two batches of five, or one for each of eight steps.
    assert passes == (4 if views else 8)
    rows = [set(torch.cat(seen[2 * epoch : 2 * epoch + 2])[:, 0].tolist()) for epoch in range(4)]
    assert (rows[0] == rows[2], rows[0] == rows[1]) == (bool(views), False)


def test_what_corrects_the_gradient_of_labels_has_no_place_beside_it() -> None:
    with pytest.raises(VptError, match="promptkd and prograd cannot be combined: both take the gradient"):
        vpt.attach(clip(), ["promptkd", "prograd"], classes=CLASSES)


def test_what_no_teacher_can_be() -> None:
    model = vpt.attach(clip(), "promptkd", classes=CLASSES).double()
    with pytest.raises(VptError, match="no teacher yet"):
        model.train().loss((images(), torch.zeros(4, dtype=torch.long)))
    with pytest.raises(VptError, match=r"promptkd has no teacher: give method\.teacher=RUN"):
        vpt.fit(model.float(), Drawn(), **QUIET)
    with pytest.raises(VptError, match="the teacher has a linear head"):
        model.teach(vpt.attach(wider(), "linear", num_classes=3))
    with pytest.raises(VptError, match="the teacher's texts depend on the image"):
        model.teach(teacher("cocoop"))
    with pytest.raises(VptError, match="take encoders that are shown the same"):
        model.teach(teacher("zero-shot", preprocessing={"mean": [0.1, 0.2, 0.3]}))
    with pytest.raises(VptError, match="kgcoop learns from labels"):
        vpt.attach(clip(), "kgcoop", classes=CLASSES).teach(teacher())
    with pytest.raises(VptError, match="this batch has one"):
        made().loss((images(1), torch.zeros(1, dtype=torch.long)))
    # Before it has learned anything it is the frozen model.
    untaught, zero = model.double().eval(), vpt.attach(clip(), "zero-shot", classes=CLASSES).double()
    assert isinstance(zero.text, TextSide)
    with torch.no_grad():
        image = F.normalize(untaught.features(images()), dim=-1)
        expected = zero.text.scale() * image @ untaught.class_features().T
        torch.testing.assert_close(untaught(images()), expected)


@pytest.mark.parametrize("option", ["weight", "temperature"])
def test_options_out_of_their_range(option: str) -> None:
    with pytest.raises(VptError, match=f"{option}=0"):
        made(**{option: 0.0})
