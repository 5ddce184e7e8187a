"""The laws for text towers: the library's own features, shared beginnings and cut endings that change nothing."""

import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

from tests.text_zoo import LENGTH, TEXT_EXAMPLES, VISION, TextExample, clip, from_transformers
from vpt.errors import VptError
from vpt.loops import encode_texts_plain
from vpt.methods.base import Method
from vpt.text import TextSide
from vpt.towers.load import wrap
from vpt.towers.text import TextTower

TOLERANCE = 1e-10


def all_examples() -> list[object]:
    """Each by its name; models of the published size take minutes."""
    return [pytest.param(name, marks=pytest.mark.slow if "ViT" in name else ()) for name in TEXT_EXAMPLES]


@pytest.fixture(params=all_examples())
def text(request: pytest.FixtureRequest) -> TextExample:
    return TEXT_EXAMPLES[request.param]


def side_of(model: torch.nn.Module) -> TextSide:
    pair = wrap(model).pair
    assert not isinstance(pair, str)
    return TextSide(pair)


def tower_of(model: torch.nn.Module) -> TextTower:
    return side_of(model).tower


def fast(model: torch.nn.Module, ids: torch.Tensor, chunk: int | None = None) -> torch.Tensor:
    side = side_of(model)
    side.chunk = chunk
    return side.encode(Method(), ids)


def plain(tower: TextTower, ids: torch.Tensor) -> torch.Tensor:
    return encode_texts_plain(tower, *tower.embed(ids), lambda layer, x: x)


def test_identity_is_bitwise_in_float32(text: TextExample) -> None:
    model, ids = text.model(), text.ids()
    tower = tower_of(model)
    with torch.no_grad():
        got = plain(tower, ids)
        assert torch.equal(got, text.features(model, ids))


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
def test_transformers_other_attention_is_followed(kind: str) -> None:
    # It takes the softmax in float32 whatever the weights are, so that float64 has no place here.
    text = from_transformers(kind, attention="eager")
    model, ids = text.model(), text.ids()
    tower = tower_of(model)
    with torch.no_grad():
        expected = text.features(model, ids)
        assert torch.equal(plain(tower, ids), expected)
        found = fast(model, ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_identity_is_bitwise_in_half_precision(text: TextExample, dtype: torch.dtype) -> None:
    model, ids = text.model().to(dtype), text.ids()
    tower = tower_of(model)
    with torch.no_grad():
        got = plain(tower, ids)
        assert torch.equal(got, text.features(model, ids))
        found = fast(model, ids)
    assert found.dtype == dtype
    assert (torch.cosine_similarity(found.float(), got.float()) > 0.9).all()


@pytest.mark.parametrize("chunk", [None, 2])
def test_sharing_and_cutting_change_neither_values_nor_gradients(text: TextExample, chunk: int | None) -> None:
    model, ids = text.model().double(), text.ids()
    tower = tower_of(model)
    expected = text.features(model, ids)
    found = fast(model, ids, chunk)
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    wanted = [p for p in tower.parameters() if p.requires_grad]
    got, of_library = (torch.autograd.grad((f * weights).sum(), wanted, allow_unused=True) for f in (found, expected))
    for one, other in zip(got, of_library, strict=True):
        if other is not None:
            scale = other.abs().max().clamp(min=1.0)
            torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=TOLERANCE)


def test_a_causal_tower_advances_what_texts_share_once_and_leaves_the_padding_out() -> None:
    example = clip()
    side = side_of(example.model())
    (texts,) = side.plan(Method(), example.ids()[:4])
    # Three tokens that all begin with, and 1, 3, 2 and 4 more.
    assert texts.codes.count_nonzero() == 3 + 1 + 3 + 2 + 4
    assert texts.codes.shape == (1, 16)
    assert texts.positions[0, :5].tolist() == [0, 1, 2, 3, 4]


def test_contexts_of_several_rows_and_a_mask_for_each_text() -> None:
    for example in (clip(), clip(block_type="custom", qk_norm=True), from_transformers("CLIP")):
        tower = tower_of(example.model().double())
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(6, 4, 16, generator=generator, dtype=torch.float64)
        context = torch.randn(2, 3, 16, generator=generator, dtype=torch.float64)
        seen = torch.rand(6, 4, 7, generator=generator) > 0.3
        seen[:, range(4), range(3, 7)] = True
        together = torch.cat([context.repeat_interleave(3, dim=0), x], dim=1)
        mask = torch.zeros(6, 7, 7, dtype=torch.float64)
        mask[:, 3:] = mask[:, 3:].masked_fill(~seen, -torch.inf)
        expected = tower.run(1, together, mask)[:, 3:]
        torch.testing.assert_close(tower.advance(1, x, context, seen), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_path_of_each_block_is_told(text: TextExample) -> None:
    tower = tower_of(text.model())
    assert all(tower.path(layer).startswith("whole block") == text.whole for layer in range(tower.depth))


@pytest.mark.parametrize("pool", ["first", "last"])
def test_a_causal_tower_that_reads_a_fixed_place_is_refused(pool: str) -> None:
    model = CustomTextCLIP(12, CLIPVisionCfg(**VISION), CLIPTextCfg(context_length=LENGTH, width=16, pool_type=pool))
    with pytest.raises(VptError, match="there is nothing to prompt"):
        wrap(model)


def test_long_texts_are_counted_and_cut_before_their_end_token() -> None:
    from tests.text_models import image_text_model

    tower = tower_of(image_text_model(context_length=8))
    texts = ["a dog", "a dog on a very very long and winding road"]
    ids = tower.tokenize(texts)
    assert ids.shape == (2, 8)
    assert ids[1, -1] == 49407
    assert tower.too_long(texts) == 1
    assert tower.tokenize(texts, reserve=2).shape == (2, 6)
    with pytest.raises(VptError, match="1 of 2 texts are empty, first number 2"):
        tower.tokenize(["a dog", " "])
