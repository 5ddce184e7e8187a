"""Words that learned context is near to."""

from functools import partial

import pytest
import torch

import vpt
from tests.zoo import shaken, vit
from vpt import VptError
from vpt.report.words import nearest_words
from vpt.towers.open_clip import NamedTokenizer


def model(method: str = "coop", **options: object) -> vpt.Prompted:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=16, vocab_size=49408, width=16, heads=2, layers=1)
    backbone = shaken(partial(CLIP, embed_dim=16, vision_cfg=vision, text_cfg=text))
    return vpt.attach(backbone, method, classes=["ant", "bee"], **options)


@pytest.mark.parametrize("method", ["coop", "cocoop", "kgcoop", "prograd"])
def test_context_that_began_as_words_is_nearest_to_them(method: str) -> None:
    rows = nearest_words(model(method, init="a photomicrograph of"), k=3)
    assert [row["token"] for row in rows] == list(range(1, len(rows) + 1))
    assert "".join(row["words"][0][0].removesuffix("-") for row in rows) == "aphotomicrographof"
    assert rows[0]["words"][0] == ("a", 0.0)
    assert rows[1]["words"][0][0].endswith("-")
    for row in rows:
        distances = [distance for _, distance in row["words"]]
        assert len(distances) == 3
        assert distances == sorted(distances)


def test_distances_are_those_of_embeddings() -> None:
    learned = model(num_tokens=2)
    embeddings = learned.text.tower.token_embedding.weight
    expected = (embeddings - learned.method.context.values[0, 1]).norm(dim=-1).sort().values[:4]
    found = [distance for _, distance in nearest_words(learned, k=4)[1]["words"]]
    torch.testing.assert_close(torch.tensor(found), expected.detach())


def test_class_specific_context_has_rows_for_each_class() -> None:
    rows = nearest_words(model(num_tokens=3, csc=True), k=1)
    assert [(row["class"], row["token"]) for row in rows] == [(c, t) for c in ("ant", "bee") for t in (1, 2, 3)]


def test_the_tokenizer_of_a_model_by_name_spells_the_same() -> None:
    learned = model(init="a photo of")
    before = nearest_words(learned)
    learned.text.tower.tokenizer = NamedTokenizer("ViT-B-16")
    assert nearest_words(learned) == before


def test_where_there_is_nothing_to_look_at_it_is_said() -> None:
    with pytest.raises(VptError, match="zero-shot learns no context of texts"):
        nearest_words(model("zero-shot"))
    with pytest.raises(VptError, match="vpt-deep learns no context of texts"):
        nearest_words(vpt.attach(vit(), "vpt-deep", num_classes=2))
    with pytest.raises(VptError, match="k=0: the vocabulary has 1 to 49408 words"):
        nearest_words(model(num_tokens=2), k=0)
    learned = model(num_tokens=2)
    learned.text.tower.tokenizer = lambda texts, context_length: None
    with pytest.raises(VptError, match="does not tell the words of its vocabulary"):
        nearest_words(learned)
