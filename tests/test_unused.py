"""An option that a run does not use is named; one that it uses is not."""

from typing import Any

import pytest

import vpt
from vpt import build, config
from vpt.unused import _tell_once, tell_unused, unused

LINEAR = {"backbone": "vpt/vit-nano", "method": "linear", "data": "digits"}
COOP = {"backbone": "vpt/clip-nano", "method": {"name": "coop", "num_tokens": 2}, "data": "digits"}
DATA = vpt.data.load("digits", shots=1)


def named(**values: Any) -> list[str]:
    checked = build.check(config.parse(values))
    return [option for _, options in unused(checked, build.build_model(checked, DATA), DATA) for option in options]


@pytest.mark.parametrize(
    ("base", "given", "expected"),
    [
        (LINEAR, {"train": {"momentum": 0.5, "epochs": 2}}, []),
        (LINEAR, {"templates": "openai-7", "text_chunk": 3, "learn_scale": True}, [
            "learn_scale", "templates", "text_chunk"
        ]),
        (LINEAR, {"task": {"loss": "sigmoid"}}, ["task"]),
        (LINEAR, {"train": {"optimizer": "adamw", "momentum": 0.5}}, ["train.momentum"]),
        (LINEAR, {"head": "linear", "train": {"head_lr": 0.1}}, []),
        (LINEAR, {"head_init": "vpt", "train": {"no_decay": "biases"}}, []),
        (COOP, {"head_init": "vpt"}, ["head_init"]),
        (COOP, {"train": {"head_lr": 0.1}}, ["train.head_lr"]),
        (COOP, {"templates": "openai-7", "text_chunk": 2}, ["templates"]),
        (COOP | {"method": "zero-shot"}, {"train": {"lr": 0.1, "batch_size": 3}}, ["train.lr"]),
    ],
)  # fmt: skip
def test_what_is_not_used_is_named(base: dict[str, Any], given: dict[str, Any], expected: list[str]) -> None:
    assert named(**base, **given) == expected


@pytest.mark.parametrize(("rate", "said"), [(0.0, True), (1e-9, False)])
def test_a_rate_of_nothing_is_told(rate: float, said: bool, capsys: pytest.CaptureFixture[str]) -> None:
    # Once in a process, in which another test may have been told.
    _tell_once.cache_clear()
    checked = build.check(config.parse({**LINEAR, "train": {"lr": rate}}))
    tell_unused(checked, build.build_model(checked, DATA), DATA)
    assert ("train.lr is 0, by which nothing is learned" in capsys.readouterr().err) == said
