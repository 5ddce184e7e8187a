"""CoPrompt: its loss as written out, two views of an image, and sentences from a file."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import vpt
from tests.engine.test_capture import Drawn
from tests.engine.test_fit import QUIET
from tests.methods.test_adapters import CLASSES, clip, images
from vpt import VptError
from vpt.data.transforms import Twice

LABELS = torch.tensor([0, 1, 2, 0])


def made(**options: object) -> vpt.Prompted:
    torch.manual_seed(3)
    model = vpt.attach(clip(), "coprompt", classes=CLASSES, **{"depth": 2, "reduction": 2, "weight": 2.0, **options})
    model = model.double().train()
    with torch.no_grad():
        for parameter in model.method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def blend(network: nn.Module, features: Tensor, ratio: float) -> Tensor:
    """As the paper's code has it, on features as long as the encoder makes them."""
    adapted = (features @ network.down.weight.T).relu() @ network.up.weight.T
    return F.normalize(ratio * adapted.relu() + (1 - ratio) * features, dim=-1)


def written_out(model: vpt.Prompted, first: Tensor, second: Tensor, sentences: list[str]) -> Tensor:
    """The loss, from both encoders' plain forms; `sentences` are those that were drawn, one a class."""
    adapters = model.method.adapters
    image = blend(adapters.image, model.features(first, plain=True), 0.1)
    text = blend(adapters.text, model.class_features(plain=True), 0.2)
    entropy = F.cross_entropy(model.text.scale() * image @ text.T, LABELS)
    with torch.no_grad():
        frozen = vpt.attach(clip(), "zero-shot", classes=CLASSES).double()
        texts = F.normalize(frozen.encode_text(frozen.tokenize(sentences)), dim=-1)
        views = F.normalize(frozen.features(second), dim=-1)
    agree = 2 - F.cosine_similarity(text, texts).mean() - F.cosine_similarity(image, views).mean()
    return entropy + 2.0 * agree


def file_of(tmp_path: Path, **changed: object) -> Path:
    held = {name.title(): [f"a {name}, number {n}" for n in range(4)] for name in CLASSES}
    (tmp_path / "said.json").write_text(json.dumps({**held, **changed}))
    return tmp_path / "said.json"


def test_values_gradients_and_twenty_steps_are_those_of_the_formula(tmp_path: Path) -> None:
    path = file_of(tmp_path)
    fast, plain = made(sentences=str(path)), made()
    learned = [[p for group in model.parameter_groups().values() for p in group] for model in (fast, plain)]
    updates = [torch.optim.SGD(parameters, lr=0.01, momentum=0.9) for parameters in learned]
    for step in range(20):
        first, second = images(seed=step), images(seed=100 + step)
        torch.manual_seed(step)
        found = fast.loss((torch.stack([first, second], dim=1), LABELS))
        torch.manual_seed(step)
        drawn = torch.randint(4, (1,)).item()
        expected = written_out(plain, first, second, [f"a {name}, number {drawn}" for name in CLASSES])
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


def test_without_a_file_a_template_is_drawn_and_without_a_second_view_the_first_is_compared() -> None:
    model, first = made(), images()
    outputs = model.outputs(first)
    assert outputs.frozen_text.shape == (3, 80, 12)
    frozen = vpt.attach(clip(), "zero-shot", classes=CLASSES).double()
    torch.testing.assert_close(outputs.frozen_image, F.normalize(frozen.features(first), dim=-1))
    torch.testing.assert_close(model.loss((torch.stack([first, first], 1), LABELS)).shape, torch.Size([]))


def test_training_shows_two_views_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = vpt.attach(clip().float(), "coprompt", classes=["thing", *CLASSES[1:]], depth=1)
    seen: list[tuple[Tensor, Tensor]] = []
    outputs = type(model).outputs

    def watched(self: vpt.Prompted, first: Tensor, *, second: Tensor | None = None, **given: object) -> object:
        if second is not None:
            seen.append((first, second))
        return outputs(self, first, second=second, **given)

    monkeypatch.setattr(type(model), "outputs", watched)
    vpt.fit(model, Drawn(), **{**QUIET, "epochs": 1, "batch_size": 4, "lr": 0.01, "augment": "crop"})
    assert [len(first) for first, _ in seen] == [4, 4, 3]
    assert all(first.shape == second.shape and not torch.equal(first, second) for first, second in seen)


def test_two_draws_are_of_one_transform() -> None:
    count = iter(range(9))
    twice = Twice(lambda image: torch.full((3, 1, 1), float(next(count))))
    assert twice(Image.new("RGB", (1, 1)))[:, 0, 0, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"Fly": ["one"]}, "1 sentences of 'fly' and 4 of 'ant': each class needs as many"),
        ({"Fly": "a fly"}, "what it has of 'fly' is no list of sentences"),
        ({"Fly": []}, "what it has of 'fly' is no list of sentences"),
    ],
)
def test_a_file_that_will_not_do(changed: dict[str, object], sentence: str, tmp_path: Path) -> None:
    model = made(sentences=str(file_of(tmp_path, **changed)))
    with pytest.raises(VptError, match=sentence):
        model.loss((images(), LABELS))


def test_a_file_without_a_class_or_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "said.json").write_text('{"ant": ["an ant"]}')
    with pytest.raises(VptError, match="has nothing of 2 classes, such as 'honey bee'"):
        made(sentences=str(tmp_path / "said.json")).loss((images(), LABELS))
    with pytest.raises(VptError, match="cannot be read as JSON"):
        made(sentences=str(tmp_path / "none.json")).loss((images(), LABELS))
    # It is of training alone: a model that was trained with one says what it says without it.
    model = made(sentences=str(tmp_path / "none.json")).eval()
    assert model(images()).shape == (4, 3)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight": -1.0}, "weight=-1.0"),
        ({"image_ratio": 2.0}, "image_ratio=2.0 is no share"),
        ({"reduction": 99}, "reduction=99 leaves no hidden layer"),
    ],
)
def test_options_out_of_their_range(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        made(**options)
