"""Where CoOp's context stands: a class name stays whole, whatever sign it ends with."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip import SimpleTokenizer
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

import vpt
from tests.parity.test_text_methods import assert_close, clip, images

TOKENS = 5
BEFORE = {"middle": 2, "front": 0}
TOKENIZER = SimpleTokenizer()
CONTEXT = [-2 - j for j in range(TOKENS)]
# "." fuses with the last sign of three of them.
NAMES = ["kite (bird of prey)", "ant", "C++", "what?!", "U.S."]


@cache
def made(position: str, *, csc: bool = False) -> vpt.Prompted:
    torch.manual_seed(0)
    options = {"classes": NAMES, "num_tokens": TOKENS, "position": position, "csc": csc}
    return vpt.attach(clip(context_length=48), "coop", **options).double()


def codes(position: str, names: list[str]) -> list[list[int]]:
    """What stands where, up to the end token."""
    model = made(position)
    tower, ids = model.text.tower, model.tokenize([f"{name}." for name in names])
    lengths = tower.lengths(ids)
    rows = model.method.context.codes(ids, lengths, tower.start).tolist()
    return [row[: length + TOKENS] for row, length in zip(rows, lengths.tolist(), strict=True)]


@pytest.mark.parametrize("position", BEFORE)
def test_the_context_stands_behind_as_many_tokens_as_a_name_of_imagenet_has_by_itself(position: str) -> None:
    before, fused = BEFORE[position], 0
    for name, row in zip(IMAGENET_CLASSNAMES, codes(position, IMAGENET_CLASSNAMES), strict=True):
        count, tokens = len(TOKENIZER.encode(name)), TOKENIZER.encode(f"{name}.")
        assert row[1:-1] == [*CONTEXT[:before], *tokens[:count], *CONTEXT[before:], *tokens[count:]]
        fused += count == len(tokens)
    assert fused == 6


@settings(deadline=None, max_examples=50)
@given(name=st.text("ab (){}[]+-_.,!?'/$é日", min_size=1, max_size=12).filter(str.strip))
@example(name="C++")
def test_behind_the_context_stands_a_full_stop_or_nothing(name: str) -> None:
    for position, before in BEFORE.items():
        (row,) = codes(position, [name])
        behind = row[row.index(CONTEXT[-1]) + 1 : -1]
        assert TOKENIZER.decode(behind).strip() in ("", ".")
        assert [code for code in row[1:-1] if code >= 0] == TOKENIZER.encode(f"{name}.")
        assert row[1 : 1 + before] == CONTEXT[:before]


@pytest.mark.parametrize("csc", [False, True])
@pytest.mark.parametrize("position", BEFORE)
def test_the_fast_form_equals_whole_texts_put_together_by_hand(position: str, csc: bool) -> None:
    model, before = made(position, csc=csc), BEFORE[position]
    tower, rows, lengths = model.text.tower, [], []
    for context, name in zip(model.method.context.values.expand(len(NAMES), -1, -1), NAMES, strict=True):
        count = len(TOKENIZER.encode(name)) + (name == "C++")  # "++" is one token, and "++." two.
        ids = [TOKENIZER.sot_token_id, *TOKENIZER.encode(f"{name}."), TOKENIZER.eot_token_id]
        words = tower.words(torch.tensor(ids))
        parts = [words[:1], context[:before], words[1 : 1 + count], context[before:], words[1 + count :]]
        rows.append(torch.cat(parts))
        lengths.append(len(rows[-1]))
    features = []
    for row, length in zip(rows, lengths, strict=True):
        x = (row + tower.positions()[:length])[None]
        mask = torch.full((length, length), -torch.inf, dtype=x.dtype).triu(1)
        for layer in range(tower.depth):
            x = tower.block(layer)(x, attn_mask=mask)
        features.append(tower.readout(x[:, -1]))
    expected = torch.nn.functional.normalize(torch.cat(features), dim=-1)
    model.train()
    assert_close([model.class_features(), model.class_features(plain=True)], [expected, expected])
    logits = model.outputs(images()).logits
    assert_close([logits], [model.outputs(images(), plain=True).logits])
