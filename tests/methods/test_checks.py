"""The battery for methods of one's own: the page about them runs, all methods pass, and every check can fail."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.methods.test_combined import Conditional, Own, OwnConditional, OwnGates
from vpt.errors import VptError
from vpt.methods import available
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, Part, TextEncoder
from vpt.testing import check_method

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def test_the_page_on_methods_of_one_s_own_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ModuleType("my_package")
    monkeypatch.setitem(sys.modules, "my_package", page)
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), page.__dict__)
    assert page.both.method.name == "gated-prompts+lora"
    assert page.patches.shape == (4, 14, 14, 192)


# Pixels of a frame of 30 leave nothing of the battery's images.
OPTIONS: dict[str, dict[str, object]] = {"pixel": {"size": 4}, "vpt-shallow": {"num_tokens": 3}, "promptsrc": {}}


@pytest.mark.parametrize("name", sorted(available()))
def test_every_method_passes(name: str) -> None:
    errors = check_method(name, **OPTIONS.get(name, {}))
    assert max(errors.values()) < 1e-10


@pytest.mark.parametrize("kind", [Own, OwnGates, OwnConditional, ["vpt-deep", "lora"]])
def test_methods_from_outside_and_combinations_pass(kind: object) -> None:
    assert max(check_method(kind).values()) < 1e-10


class Leaky(Conditional):
    def entering(self, layer: int, x: Tensor, last: Tensor | None) -> Tensor:
        return super().entering(layer, x, last) + x.flatten(0, 1).mean(0)


class Drawn(Own):
    name = "drawn"
    kind = Leaky


class Forgotten(Own):
    name = "forgotten"

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, *, num_tokens: int = 2) -> None:
        super().__init__(tower, text, num_tokens=num_tokens)
        self.spare = torch.nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(Drawn, "an image's logits depend on its batch"), (Forgotten, "no gradient reaches spare")],
)
def test_what_is_wrong_is_told(kind: type, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_method(kind)


class Untyped(Own):
    name = "untyped"

    def __init__(self, tower, text=None, *, num_tokens=2) -> None:  # type: ignore[no-untyped-def]
        super().__init__(tower, text, num_tokens=num_tokens)


def test_an_option_without_a_type_is_told() -> None:
    with pytest.raises(VptError, match="the option num_tokens of untyped has no type"):
        check_method(Untyped)


@pytest.mark.parametrize("name", ["template", "classifier", "loss"])
def test_a_part_is_not_called_what_every_method_has(name: str) -> None:
    with pytest.raises(VptError, match=f"Part cannot be called '{name}', which every method has already"):
        Method(**{name: Part()})
