"""What `vpt inspect` says of a backbone."""

import pytest

from vpt.listing import inspect


def said(name: str) -> dict[str, object]:
    return {row["what"]: row["value"] for row in inspect(name)}


def test_equal_blocks_are_one_line_and_what_opened_means_is_told_in_words() -> None:
    found = said("vpt/clip-nano")
    assert str(found["blocks 0 to 5"]).startswith("opened: ")
    assert "only keys and values are computed" in str(found["opened means"])
    assert found["texts"] == "4 blocks of width 128"
    assert "vpt-deep" in str(found["methods"])
    assert "coop" in str(found["methods with texts as classifier"])


def test_a_model_that_does_not_open_says_which_part_is_in_the_way_and_what_works_on_it() -> None:
    found = said("timm/resnet18")
    assert str(found["blocks 0 to 7"]).startswith("not entered: ResNet is none of timm's VisionTransformer, Eva")
    assert "linear" in str(found["methods"])
    assert "vpt-deep" not in str(found["methods"])
    assert "methods with texts as classifier" not in found


@pytest.mark.slow
def test_a_tower_of_stages_has_several_widths_and_rotary_positions_are_told() -> None:
    assert said("timm/swin_tiny_patch4_window7_224")["width"] == "96, 192, 384, 768"
    assert said("timm/eva02_tiny_patch14_224")["positions"] == "known to attention; prompts take no patch's"
