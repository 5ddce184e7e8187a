"""Options are a function's keyword-only arguments; what does not fit is named."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from vpt import VptError
from vpt.options import checked, options_of, typed


def bake(
    oven: object,
    *,
    minutes: int = 10,
    heat: float,
    tray: Path | None = None,
    grill: Literal["on", "off"] = "off",
):
    raise AssertionError("checking options must not call the function")


def bake_anything(*, minutes: int = 10, **more: object):
    raise AssertionError("checking options must not call the function")


def test_options_are_the_keyword_only_arguments() -> None:
    assert list(options_of(bake)) == ["minutes", "heat", "tray", "grill"]


def test_values_get_the_types_that_the_function_asks_for() -> None:
    given = {"minutes": "30", "heat": "1e-3", "tray": "pan"}
    assert checked(bake, given, "oven") == {"minutes": 30, "heat": 0.001, "tray": Path("pan")}


def test_further_keywords_pass_where_the_function_takes_any() -> None:
    assert checked(bake_anything, {"minutes": 5, "salt": 1}, "oven") == {"minutes": 5, "salt": 1}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"minuts": 3, "heat": 1}, "oven.minuts is no option of oven: did you mean 'minutes'?"),
        ({"minutes": "many", "heat": 1}, "oven.minutes='many' will not do: input should be a valid integer"),
        ({"minutes": 1.5, "heat": 1}, "oven.minutes=1.5 will not do"),
        ({"grill": "hot", "heat": 1}, "oven.grill='hot' will not do: input should be 'on' or 'off'."),
        ({"oven": 3, "heat": 1}, "oven.oven is no option"),
        ({}, "oven.heat is missing: it has no default."),
    ],
)
def test_what_does_not_fit_is_named(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError) as error:
        checked(bake, given, "oven")
    assert sentence in str(error.value)


def test_what_the_program_itself_passes_is_no_option() -> None:
    with pytest.raises(VptError, match=r"oven\.heat is no option"):
        checked(bake, {"heat": 2}, "oven", given={"heat": 1})
    assert checked(bake, {"minutes": 2}, "oven", given={"heat": 1}) == {"minutes": 2}


class Bread:
    def __init__(self, *, flour: str = "rye", **more: object) -> None:
        raise AssertionError("checking options must not make anything")


class Roll(Bread):
    def __init__(self, *, seeds: int = 0, **dough: object) -> None:
        raise AssertionError("checking options must not make anything")


class Loaf(Roll):
    def __init__(self, *, minutes: int = 40) -> None:
        raise AssertionError("checking options must not make anything")


def test_options_that_a_constructor_passes_on_are_options_too() -> None:
    assert list(options_of(Roll)) == ["flour", "seeds"]
    assert checked(Roll, {"seeds": "3", "salt": 1}, "bread") == {"seeds": 3, "salt": 1}


def test_what_a_constructor_does_not_pass_on_is_no_option() -> None:
    assert list(options_of(Loaf)) == ["minutes"]
    with pytest.raises(VptError, match=r"bread\.seeds is no option"):
        checked(Loaf, {"seeds": 3}, "bread")


@typed
def serve(plate: str | Path, *guests: str, cups: int = 1, warm: bool = True, music: object = None) -> str:
    return f"{plate} {guests} {cups} {warm} {music}"


def test_simple_arguments_are_checked_and_others_left_alone() -> None:
    assert serve("a", "b", cups=2, music=[1]) == "a ('b',) 2 True [1]"
    # numpy's numbers are numbers.
    assert serve(Path("a"), cups=np.int64(3)) == "a () 3 True None"
    for given, sentence in (({"cups": True}, "cups=True will not do"), ({"warm": 1}, "warm=1 will not do")):
        with pytest.raises(VptError, match=sentence):
            serve("a", **given)
    with pytest.raises(VptError, match="plate=None will not do"):
        serve(None)
    with pytest.raises(TypeError, match="unexpected keyword argument 'forks'"):
        serve("a", forks=1)
