"""Several methods at once, and methods from outside of the package."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

import vpt
from tests.methods.test_lora import filled
from tests.zoo import images_for, vit
from vpt import config
from vpt.build import config_of
from vpt.errors import VptError
from vpt.methods import called, find
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.tokens import Tokens
from vpt.trust import from_elsewhere, trusting


class Doubled(Tokens):
    """Prompts that enter as twice what they are."""

    def prompts(self, layer: int, batch: int) -> Tensor:
        return 2 * super().prompts(layer, batch)


class Gates(Tokens):
    """Prompts that are mixed with what the block before made of the last ones."""

    looks_back = True

    def entering(self, layer: int, x: Tensor, last: Tensor | None) -> Tensor:
        new = super().entering(layer, x, last)
        return new if last is None else 0.25 * last + 0.75 * new


class Conditional(Tokens):
    """Prompts that are moved by the mean of the image's tokens."""

    looks_at_image = True

    def entering(self, layer: int, x: Tensor, last: Tensor | None) -> Tensor:
        return super().entering(layer, x, last) + x.mean(1, keepdim=True)


class Own(Method):
    name = "own"
    kind: type[Tokens] = Doubled

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, num_tokens: int = 2) -> None:
        super().__init__(prompts=self.kind(tower, range(tower.depth), num_tokens=num_tokens))


class OwnGates(Own):
    name = "own-gates"
    kind = Gates


class OwnConditional(Own):
    name = "own-conditional"
    kind = Conditional


def test_parts_of_two_methods_learn_together_and_are_saved(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = filled(vpt.attach(vit(), ["vpt-deep", "lora"], num_classes=3, num_tokens=2, rank=4))
    assert model.num_tuned(head=False) == 3 * 2 * 24 + 3 * 2 * 2 * 4 * 24
    model.save_pretrained(tmp_path / "both")
    loaded = vpt.load(tmp_path / "both", backbone=vit())
    images = images_for(vit())
    assert torch.equal(loaded.features(images), model.eval().features(images))
    assert loaded.method.name == "vpt-deep+lora"


@pytest.mark.parametrize(
    ("methods", "options", "sentence"),
    [
        (["vpt-deep", "vpt-shallow"], {}, "vpt-deep and vpt-shallow cannot be combined: both take the image prompts"),
        (["lora", "clip-lora"], {"head": "linear"}, "lora and clip-lora cannot be combined: both take the image q"),
        (["bias", "full"], {}, "bias and full cannot be combined: both take the biases of the backbone"),
        (["vpt-deep", "vpt-deep"], {}, "vpt-deep is there twice"),
        (["vpt-deep", "lora"], {"dropout": 0.1}, "vpt-deep, lora have it all: give it by name"),
        (["vpt-deep", "lora"], {"rnk": 2}, "method.rnk is no option of vpt-deep+lora: did you mean 'rank'"),
        (["linear", "coop"], {}, "no classifier serves all: linear takes linear; coop takes text"),
        ([], {}, "method=[] names none"),
        ([{"tokens": 3}], {}, "each of a list is a name"),
    ],
)
def test_what_cannot_be_combined_is_told(methods: list, options: dict, sentence: str) -> None:
    with pytest.raises(VptError) as error:
        vpt.attach(vit(), methods, num_classes=3, **options)
    assert sentence in str(error.value)


def test_options_are_given_by_the_name_of_their_method_where_two_have_them() -> None:
    model = vpt.attach(
        vit(), ["vpt-deep", {"name": "lora", "dropout": 0.3}], num_classes=3, **{"vpt-deep": {"dropout": 0.2}}
    )
    assert (model.method.parts[0].dropout.p, model.method.parts[1].dropout) == (0.2, 0.3)


def test_a_list_in_a_config_is_a_combination() -> None:
    values = {"backbone": "timm/vit_tiny_patch16_224", "data": "digits"}
    read = config.parse({**values, "method": ["vpt-deep", {"name": "lora", "rank": 4}]})
    assert read.method == {"name": "vpt-deep+lora", "lora": {"rank": 4}}


@pytest.mark.parametrize("kind", [Own, OwnGates, OwnConditional])
def test_a_class_of_one_s_own_goes_where_a_name_goes(kind: type[Method], tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = filled(vpt.attach(vit(), kind, num_classes=3, num_tokens=3).double()).eval()
    images = images_for(model.tower.model)
    plain = model.features(images, plain=True)
    torch.testing.assert_close(model.features(images), plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.compile_prompts().features(images), plain, rtol=0, atol=1e-12)
    model.float().save_pretrained(tmp_path / "own")
    assert type(vpt.load(tmp_path / "own", backbone=vit()).method) is kind


def test_prompts_that_look_back_depend_on_those_before() -> None:
    model = vpt.attach(vit(), OwnGates, num_classes=3).double()
    model.features(images_for(model.tower.model)).sum().backward()
    assert model.method.prompts.values.grad.abs().sum((1, 2)).all()


def test_a_class_is_found_by_its_path() -> None:
    name = f"{__name__}:Own"
    assert find(name) is Own
    assert called(Own) == (name, {})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_package:Own", "there is no method 'no_such_package:Own' (No module named 'no_such_package')"),
        (f"{__name__}:Missing", "has no attribute 'Missing'"),
        ("torch.nn:Linear", "torch.nn:Linear is no method"),
    ],
)
def test_a_path_that_leads_to_no_method_is_told(name: str, sentence: str) -> None:
    with pytest.raises(VptError) as error:
        find(name)
    assert sentence in str(error.value)


def test_nothing_is_imported_for_a_file_s_sake_without_the_user_s_word(tmp_path: Path) -> None:
    with from_elsewhere(), pytest.raises(VptError, match="import antigravity first; or, if you trust what it runs"):
        find("antigravity:Method")
    with from_elsewhere(), trusting(True), pytest.raises(VptError, match="there is no method 'no_such_package:Own'"):
        find("no_such_package:Own")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("method", ["antigravity:Method", ["vpt-deep", {"name": "antigravity:Method", "rank": 2}]])
def test_the_config_of_a_run_is_no_word_of_the_user_s(method: object, tmp_path: Path) -> None:
    values = {"backbone": "vpt/vit-nano", "data": "digits", "method": method}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(VptError, match="import antigravity first"):
        config_of(tmp_path)
    assert "antigravity" not in sys.modules


def test_options_that_only_training_reads_are_not_saved_however_they_are_given() -> None:
    kind = find("promptkd+lora")
    lora = {"rank": 4}
    assert kind.kept({"promptkd": {"teacher": "run", "depth": 2}, "lora": lora}) == {
        "promptkd": {"depth": 2},
        "lora": lora,
    }
    assert kind.kept({"teacher": "run", "rank": 4}) == {"rank": 4}
