"""open_clip's text towers: tokenizers of other kinds than CLIP's, and encoders that cannot be opened."""

import re
from pathlib import Path

import open_clip
import pytest
import tokenizers
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from transformers import BertConfig, PreTrainedTokenizerFast

import vpt
from tests.text_zoo import VISION, clip
from vpt import VptError
from vpt.towers.load import wrap


def words(texts: list[str], context_length: int) -> torch.Tensor:
    """A token a word as SigLIP has them: none to start with, 1 as end and as padding."""
    ids = torch.ones(len(texts), context_length, dtype=torch.long)
    for row, text in enumerate(texts):
        own = [2 + sum(word.encode()) % 30 for word in text.split()][: context_length - 1]
        ids[row, : len(own)] = torch.tensor(own)
    return ids


def test_an_encoder_of_transformers_inside_is_refused_with_its_reason() -> None:
    model = CustomTextCLIP(12, CLIPVisionCfg(**VISION), CLIPTextCfg(width=16, layers=1, heads=2, vocab_size=40))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model.text = HFTextEncoder("", 12, config=BertConfig(**sizes, vocab_size=40), pooler_type="mean_pooler")
    assert wrap(model).pair == "a HFTextEncoder is not open_clip's own text transformer"
    assert wrap(model.visual).pair == "it is the image half alone"


def test_where_words_begin_and_which_are_too_many_is_asked_of_the_tokenizer() -> None:
    model = clip(pool_type="last", no_causal_mask=True).model()
    tower = wrap(model, words).pair.text
    assert tower.start == 0
    # Eleven words and the end token fill the context.
    assert tower.too_long(["one " * 11, "two " * 12, "abundance"]) == 1
    assert wrap(clip().model()).pair.text.start == 1


def test_a_live_model_is_loaded_again_with_its_tokenizer(tmp_path: Path) -> None:
    siglip = clip(pool_type="last", no_causal_mask=True)
    model = vpt.attach(siglip.model(), "coop", classes=["dog", "car"], num_tokens=2, tokenizer=words)
    model.save_pretrained(tmp_path / "saved")
    loaded = vpt.load(tmp_path / "saved", backbone=siglip.model(), tokenizer=words)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded(images), model(images))


def test_without_the_hub_a_tokenizer_is_given_from_files_as_the_sentence_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1, "no_causal_mask": True}
    text |= {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "tokenizer_kwargs": {"clean": "canonicalize"}}
    config = {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": text, "custom_text": True}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-16-SigLIP2", config)
    given = {"pretrained": False, "classes": ["a dog", "a cat"], "templates": ["{}"]}
    model = vpt.create("open_clip/ViT-B-16-SigLIP2", "zero-shot", **given)
    with pytest.raises(VptError, match=r"files of timm/ViT-B-16-SigLIP2 .* pass tokenizer=") as error:
        model.class_features()
    call = re.search(r"tokenizer=(\S+\(folder, .*?\))\.", str(error.value))[1]
    vocabulary = {"<pad>": 0, "<eos>": 1, "a": 2, "dog": 3, "cat": 4, "<unk>": 5}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>").save_pretrained(tmp_path)
    assert call == "open_clip.tokenizer.HFTokenizer(folder, context_length=8, clean='canonicalize')"
    tokenizer = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=8, clean="canonicalize")
    model = vpt.create("open_clip/ViT-B-16-SigLIP2", "zero-shot", tokenizer=tokenizer, **given)
    assert model.tokenize(["A dog!"])[0].tolist()[:2] == [2, 3]
    assert model.class_features().shape == (2, 12)
