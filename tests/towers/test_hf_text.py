"""transformers' text towers: CLIP's causal one, SigLIP's that sees everything, and their tokenizers."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipTextModel,
)

import vpt
from tests.zoo import HF, clip, shaken
from vpt import VptError
from vpt.loops import encode_texts_plain
from vpt.methods.base import Method
from vpt.methods.parts import TextPrompts
from vpt.text import TextSide
from vpt.towers.backbone import Pair
from vpt.towers.hf_tokenizer import by_name
from vpt.towers.load import load, wrap

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 12,
    "vocab_size": 32,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
WORDS = ["a", "photo", "of", "dog", "red", "car", "tree"]
CLASSES = ["dog", "red car", "tree"]


def clip_model(**text: object) -> nn.Module:
    config = CLIPConfig(vision_config=HF, text_config={**TEXT, **text}, projection_dim=12)
    return shaken(lambda: CLIPModel(config))


def siglip_model(**text: object) -> nn.Module:
    config = SiglipConfig(vision_config=HF, text_config={**TEXT, "projection_size": 24, **text})
    return shaken(lambda: SiglipModel(config))


# The highest id is the end token of the models whose config names another one.
MODELS = {
    "clip": (clip_model, 1),
    "clip, end token 2 in its config": (lambda: clip_model(eos_token_id=2), 31),
    "siglip": (siglip_model, 1),
}


@pytest.fixture(params=MODELS)
def example(request: pytest.FixtureRequest) -> tuple[Any, Tensor]:
    """A model, and texts of several lengths with a common beginning, filled up with their end token."""
    make, end = MODELS[request.param]
    ids = torch.randint(3, 30, (4, 12), generator=torch.Generator().manual_seed(1))
    ids[:, :3] = torch.tensor([0, 7, 8])
    for row, length in zip(ids, (5, 9, 12, 7), strict=True):
        row[length - 1 :] = end
    return make(), ids


def pair_of(model: nn.Module, tokenizer: Any = None) -> Pair:
    pair = wrap(model, tokenizer).pair
    assert isinstance(pair, Pair)
    return pair


def words_tokenizer(
    start: bool = True, vocabulary: tuple[str, ...] = ("<start>", "<end>", "<unk>", *WORDS), **options: object
) -> PreTrainedTokenizerFast:
    """Whole words, with CLIP's start token or without one as SigLIP's."""
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>" if start else "$A <end>",
        special_tokens=[(token, ids[token]) for token in ("<start>", "<end>")],
    )
    given = {"eos_token": "<end>", "pad_token": "<end>", "unk_token": "<unk>", **options}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given)


@torch.no_grad()
def test_opened_and_put_together_it_is_the_library_s_own_bit_for_bit(example: tuple[Any, Tensor]) -> None:
    model, ids = example
    tower = pair_of(model).text
    x, texts = given = tower.embed(ids)
    mask = None
    if texts.seen is not None:
        mask = torch.zeros(texts.seen.shape).masked_fill(~texts.seen, -torch.inf)[None]
    for layer in range(tower.depth):
        x = tower.block(layer)(x, attention_mask=mask)
    found = tower.readout(x.flatten(0, 1)[texts.picked])
    assert torch.equal(found, model.get_text_features(ids).pooler_output)
    assert found.shape == (4, tower.num_features)
    assert torch.equal(encode_texts_plain(tower, *given, lambda layer, x: x), found)


@torch.no_grad()
def test_the_fast_form_is_the_library_s_own(example: tuple[Any, Tensor]) -> None:
    model, ids = example
    model.double()
    side = TextSide(pair_of(model))
    assert all(side.tower.path(layer).startswith("opened") for layer in range(side.tower.depth))
    expected = model.get_text_features(ids).pooler_output
    for chunk in (None, 3):
        side.chunk = chunk
        found = side.encode(Method(), ids)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_padding_behind_the_end_changes_clip_s_features_not_at_all() -> None:
    tower = pair_of(clip_model().double()).text
    ids = torch.tensor([[0, 5, 6, 1, 1, 1], [0, 5, 6, 1, 9, 4]])
    one, other = tower.readout(_last(tower, ids))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert tower.lengths(ids).tolist() == [4, 4]


def test_siglip_reads_the_last_place_and_sees_padding() -> None:
    tower = pair_of(siglip_model().double()).text
    ids = torch.tensor([[5, 6, 1, 1, 1, 1], [5, 6, 1, 1, 2, 1]])
    assert (tower.start, tower.causal, tower.lengths(ids).tolist()) == (0, False, [6, 6])
    one, other = tower.readout(_last(tower, ids))
    assert not torch.allclose(one, other)


def _last(tower: Any, ids: Tensor) -> Tensor:
    x, texts = tower.embed(ids)
    for layer in range(tower.depth):
        x = tower.advance(layer, x, mask=None if texts.seen is None else texts.seen[0])
    return x.flatten(0, 1)[texts.picked]


@torch.no_grad()
def test_context_behind_the_start_tokens(example: tuple[Any, Tensor]) -> None:
    """In the fast form and by definition; SigLIP's context stands first, and the last place is still read."""

    class Fixed(TextPrompts):
        num_context = 2

        def context(self, features: Tensor | None) -> Tensor:
            return torch.full((1, 2, 16), 0.3, dtype=torch.float64)

    model, ids = example
    side = TextSide(pair_of(model.double()))
    ids = torch.cat([ids[:, :9], ids[:, -1:]], dim=1)
    method = Method(context=Fixed())
    plain = side.encode(method, ids, plain=True)
    torch.testing.assert_close(side.encode(method, ids), plain, rtol=0, atol=1e-10)


def test_scale_and_bias_are_the_model_s() -> None:
    siglip, model = siglip_model(), clip_model()
    pair = pair_of(siglip)
    assert (pair.logit_scale.item(), pair.logit_bias.item()) == (siglip.logit_scale.item(), siglip.logit_bias.item())
    assert pair.logit_scale.shape == pair.logit_bias.shape == ()
    assert (pair_of(model).logit_scale, pair_of(model).logit_bias) == (model.logit_scale, None)


@pytest.mark.parametrize(("make", "start"), [(clip_model, True), (siglip_model, False)])
def test_logits_of_class_names_are_the_library_s_own(make: Any, start: bool) -> None:
    library, tokenizer = make().double(), words_tokenizer(start)
    model = vpt.attach(make(), "bias", classes=CLASSES, head="text", tokenizer=tokenizer).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    texts = [f"a photo of a {name}" for name in CLASSES]
    ids = tokenizer(texts, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    model.set_classes(CLASSES, ["a photo of a {}"])
    expected = library(input_ids=ids, pixel_values=images).logits_per_image
    torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


def test_a_tokenizer_of_transformers_is_called_as_open_clip_s() -> None:
    tower = pair_of(clip_model(), words_tokenizer(padding_side="left")).text
    assert tower.tokenize(["a dog"], reserve=4).tolist() == [[0, 3, 6, 1, 1, 1, 1, 1]]
    assert tower.tokenize(["dog " * 30]).tolist() == [[0, *[6] * 10, 1]]
    assert tower.tokenize([]).shape == (0, 12)
    with pytest.raises(VptError, match="1 of 2 texts are empty"):
        tower.tokenize(["dog", " "])


@torch.no_grad()
@pytest.mark.parametrize("eos_token_id", [9, 2])
def test_clip_reads_the_end_token_whatever_it_is_padded_with(eos_token_id: int) -> None:
    """Of the config's id, or of the highest id where the config has the one that the first published models have."""
    # Padding behind the end token "<end>", which is the highest id: itself, as CLIP's, or another token.
    library = clip_model(vocab_size=10, bos_token_id=8, eos_token_id=eos_token_id).double()
    found = []
    for pad in ("<end>", "<unk>"):
        pair = pair_of(library, words_tokenizer(vocabulary=("<unk>", *WORDS, "<start>", "<end>"), pad_token=pad))
        tower = pair.text
        ids = tower.tokenize(["a dog", "a red car " * 9])
        assert ids[:, 0].tolist() == [8, 8]
        assert ids[0, 3] == ids[1, -1] == 9
        assert tower.lengths(ids).tolist() == [4, 12]
        found.append(TextSide(pair).encode(Method(), ids))
        torch.testing.assert_close(found[-1], library.get_text_features(ids).pooler_output, rtol=0, atol=1e-10)
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


@torch.no_grad()
def test_siglip_s_texts_are_filled_up_to_their_64_places_and_the_last_is_read() -> None:
    library, tokenizer = siglip_model(max_position_embeddings=64).double(), words_tokenizer(start=False)
    pair = pair_of(library, tokenizer)
    tower = pair.text
    texts = ["a dog", "a photo of a red car", "tree " * 80]
    ids = tower.tokenize(texts)
    assert ids.shape == (3, 64)
    assert ids[0].tolist() == [3, 6, *[1] * 62]
    assert ids[:, -1].tolist() == [1, 1, 1]
    assert tower.lengths(ids).tolist() == [64] * 3
    assert tower.too_long(texts) == 1
    expected = library.get_text_features(
        tokenizer(texts, padding="max_length", truncation=True, max_length=64, return_tensors="pt")["input_ids"]
    ).pooler_output
    found = TextSide(pair).encode(Method(), ids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("make", "start"), [(clip_model, True), (siglip_model, False)])
def test_texts_that_are_cut_are_counted(make: Any, start: bool) -> None:
    tower = pair_of(make(), words_tokenizer(start)).text
    words = 10 if start else 11
    assert tower.too_long(["dog " * words, "dog " * (words + 1), "dog"]) == 1
    assert tower.too_long(["dog " * words, "dog " * (words - 1), "dog"], reserve=1) == 1


def test_open_clip_s_models_take_a_tokenizer_of_transformers_too() -> None:
    tower = pair_of(clip(), words_tokenizer()).text
    assert tower.tokenize(["a dog"])[0, :5].tolist() == [0, 3, 6, 1, 1]


def test_deep_prompts_are_trained_against_class_names() -> None:
    live = clip_model(vocab_size=49408, bos_token_id=49406, eos_token_id=49407, max_position_embeddings=16)
    frozen = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    model = vpt.attach(live, "vpt-deep", classes=CLASSES, head="text", num_tokens=2, tokenizer=open_clip.tokenize)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in live.state_dict().items())


def test_by_name_with_its_own_tokenizer_saved_and_loaded(tmp_path: Path) -> None:
    clip_model().save_pretrained(tmp_path / "clip")
    words_tokenizer().save_pretrained(tmp_path / "clip")
    model = vpt.create(f"hf/{tmp_path / 'clip'}", "vpt-deep", classes=CLASSES, head="text", num_tokens=2)
    model.save_pretrained(tmp_path / "saved")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(vpt.load(tmp_path / "saved")(images), model(images))
    live = vpt.attach(CLIPModel.from_pretrained(tmp_path / "clip"), "bias", classes=CLASSES, head="text")
    assert torch.equal(live.tokenize(CLASSES), model.tokenize(CLASSES))


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    clip_model().save_pretrained(tmp_path)
    tower = load(f"hf/{tmp_path}").pair.text
    with pytest.raises(VptError, match=r"the tokenizer of hf/.* could not be had \(.*\): check the network, or pass"):
        tower.tokenize(["dog"])


def unloadable(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def from_pretrained(name: str, **options: object) -> None:
        raise error

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", from_pretrained)


@pytest.mark.parametrize("package", ["the SentencePiece library", "the protobuf library"])
def test_siglip_s_tokenizer_needs_packages_of_its_own(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    siglip_model().save_pretrained(tmp_path)
    unloadable(monkeypatch, ImportError(f"\nSiglipTokenizer requires {package} but it was not found."))
    with pytest.raises(VptError, match=r"needs other packages: pip install sentencepiece protobuf, or pass") as told:
        load(f"hf/{tmp_path}").pair.text.tokenize(["dog"])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "error", [OSError("\nno connection\nat all"), ValueError("no connection"), TypeError("no connection")]
)
def test_without_a_network_the_reason_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    unloadable(monkeypatch, error)
    with pytest.raises(
        VptError, match=r"the tokenizer of hf/x/y could not be had \(no connection\): check the network,"
    ):
        by_name("x/y")(["dog"], context_length=12)


def test_a_tokenizer_that_nothing_names() -> None:
    with pytest.raises(
        VptError, match=r"the tokenizer of hf/openai/nothing could not be had \(.*\): check the network"
    ):
        by_name("openai/nothing")(["dog"], context_length=12)
    with pytest.raises(VptError, match="came without a tokenizer: pass tokenizer="):
        pair_of(clip_model()).text.tokenize(["dog"])


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(VptError, match="gave the id 49407, and this text encoder has 32 tokens"):
        pair_of(clip_model(), open_clip.tokenize).text.tokenize(["dog"])
    with pytest.raises(VptError, match="without the end token 9 that this text encoder reads"):
        pair_of(clip_model(eos_token_id=9), words_tokenizer()).text.tokenize(["red"])
    with pytest.raises(VptError, match="has no padding token: set its pad_token"):
        pair_of(clip_model(), words_tokenizer(pad_token=None))


def test_image_models_have_no_text_half_and_text_models_no_image_half() -> None:
    assert wrap(CLIPVisionModel(CLIPVisionConfig(**HF))).pair == "it is an image model alone"
    for kind in (CLIPTextModel, CLIPTextModelWithProjection):
        with pytest.raises(VptError, match=f"a {kind.__name__} is a text encoder without images: give the whole CLIPM"):
            wrap(kind(CLIPTextConfig(**TEXT)))
    with pytest.raises(VptError, match="give the whole SiglipModel"):
        wrap(SiglipTextModel(SiglipTextConfig(**TEXT)))


@torch.no_grad()
@pytest.mark.parametrize("make", [clip_model, siglip_model], ids=["clip", "siglip"])
def test_attention_that_takes_masks_is_taken_and_gives_the_same(make: Any) -> None:
    ids = torch.randint(3, 30, (2, 12), generator=torch.Generator().manual_seed(1))
    ids[:, 9:] = 1
    found = []
    for attention in ("sdpa", "eager"):
        model = make().double()
        model.set_attn_implementation(attention)
        side = TextSide(pair_of(model))
        found += [side.encode(Method(), ids), side.encode(Method(), ids, plain=True)]
    # "eager" takes its softmax in float32, whatever the model is in.
    for each in found[1:]:
        torch.testing.assert_close(each, found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3", "flex_attention"])
@pytest.mark.parametrize("make", [clip_model, siglip_model], ids=["clip", "siglip"])
def test_attention_that_takes_no_masks_is_refused_for_texts(make: Any, attention: str) -> None:
    model = make()
    # What transformers does itself, where the kernels are installed.
    model.text_model.config._attn_implementation = attention
    with pytest.raises(VptError, match=rf"masks, which attn_implementation='{attention}' does not take: load it with"):
        vpt.attach(model, "zero-shot", classes=CLASSES, tokenizer=words_tokenizer())
