"""Facts of the weights are read from what comes with them, and asked for or told where nothing does."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    SiglipImageProcessor,
    ViTImageProcessor,
)

import vpt
from tests.zoo import HF, SMALL, clip, torchvision_vit, vit
from vpt import VptError
from vpt.data.transforms import as_transform
from vpt.preprocessing import Preprocessing
from vpt.towers.hf_processor import converted
from vpt.towers.load import load, wrap

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
SQUARE = {"height": 32, "width": 32}
PROCESSORS = {
    "vit": ViTImageProcessor(size=SQUARE),
    "siglip": SiglipImageProcessor(size=SQUARE),
    "clip": CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=SQUARE),
    "dinov2": BitImageProcessor(size={"shortest_edge": 37}, crop_size=SQUARE, resample=3),
    "oblong": ViTImageProcessor(size={"height": 32, "width": 48}),
    "squashed and cut": CLIPImageProcessor(size={"height": 40, "width": 40}, crop_size=SQUARE),
    "not normalised": ViTImageProcessor(size=SQUARE, do_normalize=False),
    "from -1 to 1 by its factor": ViTImageProcessor(
        size=SQUARE, rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3
    ),
    "convnext": ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
    "convnext, large": ConvNextImageProcessor(size={"shortest_edge": 384}, crop_pct=0.875),
    "lanczos": ViTImageProcessor(size=SQUARE, resample=1, image_mean=[0.1, 0.2, 0.3]),
}


def smooth(size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A picture that every kernel resizes to nearly the same values."""
    ramp = np.linspace(0, 255, size[0])[None, :, None] * np.array([1.0, 0.5, 0.25])
    return Image.fromarray(np.broadcast_to(ramp, (size[1], size[0], 3)).astype(np.uint8))


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_processor_and_its_preprocessing_do_the_same(kind: str) -> None:
    processor = PROCESSORS[kind]
    expected = torch.as_tensor(np.asarray(processor(smooth(), return_tensors="np")["pixel_values"][0]))
    found = converted(processor, "x").transform()(smooth())
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 0.05


def test_every_size_of_crop_is_met_to_the_pixel() -> None:
    for side in range(8, 60):
        for resized in range(side, 90):
            processor = CLIPImageProcessor(size={"shortest_edge": resized}, crop_size={"height": side, "width": side})
            assert int(side / converted(processor, "x").crop) == resized


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size=SQUARE, do_resize=False),
        CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False),
        CLIPImageProcessor(size={"longest_edge": 64}, crop_size=SQUARE),
        CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 32, "width": 48}),
    ],
)
def test_what_a_processor_does_otherwise_is_asked_for(processor: object, tmp_path: Path) -> None:
    transformers.ViTModel(transformers.ViTConfig(**HF)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(VptError, match=r"images that are not known here .*: say preprocessing=…\."):
        vpt.create(f"hf/{tmp_path}", "linear", num_classes=2)
    given = {"crop_mode": "squash", "mean": (0.1, 0.2, 0.3)}
    model = vpt.create(f"hf/{tmp_path}", "linear", num_classes=2, preprocessing=given)
    assert model.preprocessing == Preprocessing((32, 32), 1.0, "squash", "bilinear", (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))


def dinov2(folder: Path, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**{**HF, "mlp_ratio": 2, "patch_size": 14, **options}))
    model.save_pretrained(folder)
    return model.eval()


def test_dinov2_sees_what_its_processor_cuts_and_not_the_size_of_its_positions(tmp_path: Path) -> None:
    model = dinov2(tmp_path, image_size=518)
    BitImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56}).save_pretrained(tmp_path)
    named = vpt.create(f"hf/{tmp_path}", "linear", num_classes=2)
    assert (named.preprocessing.size, named.preprocessing.crop) == ((56, 56), 0.875)
    white = named.preprocessing.transform()(Image.new("RGB", (100, 70), "white"))
    assert (white > 0).all()
    with torch.no_grad():
        expected = model(pixel_values=white[None]).pooler_output
    torch.testing.assert_close(named.features(white[None]), expected)
    assert vpt.create(f"hf/{tmp_path}", num_classes=2, image_size=70).preprocessing.size == (70, 70)
    with pytest.raises(VptError, match=r"patches of 14 pixels do not divide 60×60.*take 56×56 or 70×70"):
        vpt.create(f"hf/{tmp_path}", num_classes=2, image_size=60)
    with pytest.raises(VptError, match="patches of 14 pixels do not divide 50×50"):
        named(torch.zeros(1, 3, 50, 50))


def test_a_live_model_of_transformers_is_read_by_the_name_it_was_loaded_by(tmp_path: Path) -> None:
    transformers.ViTModel(transformers.ViTConfig(**HF)).save_pretrained(tmp_path)
    ViTImageProcessor(size=SQUARE, image_mean=[0.1] * 3).save_pretrained(tmp_path)
    live = transformers.AutoModel.from_pretrained(tmp_path)
    assert wrap(live).preprocessing == load(f"hf/{tmp_path}").preprocessing
    assert wrap(live).preprocessing.mean == (0.1, 0.1, 0.1)


def test_a_processor_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    transformers.ViTModel(transformers.ViTConfig(**HF)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "NoSuch"}))
    with pytest.raises(VptError, match=r"the image processor of hf/\S+ cannot be read"):
        vpt.create(f"hf/{tmp_path}", "linear", num_classes=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: transformers.ViTModel(transformers.ViTConfig(**HF)),
        lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**HF)),
        clip,
        torchvision_vit,
    ],
)
def test_what_is_taken_for_want_of_better_is_told_and_can_be_given(make, capsys: pytest.CaptureFixture[str]) -> None:
    model = vpt.attach(make(), "linear", num_classes=2)
    told = capsys.readouterr().err
    assert re.match(r"vpt: .*mean \(.*say otherwise by preprocessing=…", told)
    assert str(model.preprocessing.mean) in told
    given = vpt.attach(make(), "linear", num_classes=2, preprocessing=model.preprocessing)
    assert given.preprocessing == model.preprocessing
    assert capsys.readouterr().err == ""


def test_a_model_with_facts_of_its_own_is_taken_at_its_word(capsys: pytest.CaptureFixture[str]) -> None:
    vpt.attach(vit(), "linear", num_classes=2)
    vpt.create("vpt/vit-nano", "linear", num_classes=2)
    vpt.create("vpt/clip-nano", "zero-shot", classes=["a", "b"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"men": [0, 0, 0]}, r"backbone\.preprocessing\.men is none of"),
        (
            {"mean": [1]},
            r"preprocessing\.mean=\[1\] will not do: mean is of 1 channels and std of 3; give",
        ),
        ({"std": [1, 0, 1]}, r"preprocessing\.std"),
        ({"std": [1, float("nan"), 1]}, r"preprocessing\.std"),
        ({"crop_mode": "stretch"}, r"preprocessing\.crop_mode='stretch'"),
        ({"crop_pct": 0}, r"preprocessing\.crop=0"),
        ({"size": [64, 64]}, r"preprocessing\.size=\[64, 64\], and this backbone takes 32×32"),
    ],
)
def test_preprocessing_that_makes_no_sense(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        vpt.attach(vit(), "linear", num_classes=2, preprocessing=given)


def test_tags_know_the_activation_and_the_images_of_weights_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {
        "embed_dim": 12,
        "vision_cfg": {"layers": 1, "width": 16, "head_width": 8, "patch_size": 8, "image_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    # Small models by the names of large ones, for whose tags open_clip has the facts.
    for name in ("ViT-B-32", "ViT-B-16-SigLIP"):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, sizes)
    torch.save(open_clip.model.CLIP(**sizes).state_dict(), tmp_path / "w.pt")

    def made(name: str, **options: object) -> vpt.Prompted:
        return vpt.create(f"open_clip/{name}", "linear", num_classes=2, weights=tmp_path / "w.pt", **options)

    def activation(model: vpt.Prompted) -> str:
        return type(model.tower.block(0).mlp.gelu).__name__

    openai, laion = made("ViT-B-32/openai"), made("ViT-B-32/laion2b_s34b_b79k")
    assert (activation(openai), activation(laion)) == ("QuickGELU", "GELU")
    assert capsys.readouterr().err == ""
    # The same weights, and another model: what the activation of a saved one was is kept.
    openai.save_pretrained(tmp_path / "saved")
    assert activation(vpt.load(tmp_path / "saved")) == "QuickGELU"
    with pytest.raises(
        VptError, match="was trained with activations quick_gelu, and the backbone loaded here has gelu"
    ):
        vpt.load(tmp_path / "saved", backbone="open_clip/ViT-B-32/laion2b_s34b_b79k", weights=tmp_path / "w.pt")
    # Without a tag it cannot be known; it can be said.
    capsys.readouterr()
    made("ViT-B-32")
    assert "openai, laion400m_e31" in capsys.readouterr().err
    assert activation(made("ViT-B-32", backbone_options={"force_quick_gelu": True})) == "QuickGELU"
    assert capsys.readouterr().err == ""
    siglip = made("ViT-B-16-SigLIP/webli").preprocessing
    assert (siglip.mean, siglip.crop_mode) == ((0.5, 0.5, 0.5), "squash")
    assert made("ViT-B-16-SigLIP").preprocessing == siglip


def test_a_model_put_together_by_hand_is_cut_as_open_clip_does() -> None:
    found = wrap(clip()).preprocessing.transform()(PHOTO)
    expected = open_clip.image_transform(32, is_train=False)(PHOTO)
    torch.testing.assert_close(found, expected)


def test_a_live_model_with_other_words_than_clip_s_is_given_no_tokenizer() -> None:
    model = vpt.attach(clip(), "zero-shot", head="text")
    with pytest.raises(VptError, match="came without a tokenizer: pass tokenizer=…"):
        model.tokenize(["a dog"])

    def words(texts: list[str], context_length: int) -> torch.Tensor:
        return torch.tensor([[1, 63] + [0] * (context_length - 2) for _ in texts])

    assert vpt.attach(clip(), "zero-shot", head="text", tokenizer=words).tokenize(["a dog"]).shape == (1, 16)
    named = vpt.create("vpt/clip-nano", "zero-shot", head="text", tokenizer=words)
    assert named.tokenize(["a dog"])[0, :2].tolist() == [1, 63]
    with pytest.raises(VptError, match="tokenizer=… is for texts, and vpt/vit-nano has no text side"):
        vpt.create("vpt/vit-nano", num_classes=2, tokenizer=words)


@pytest.mark.parametrize(
    "other",
    [
        {"num_heads": 6},
        {"act_layer": "quick_gelu"},
        {"global_pool": "avg", "fc_norm": False},
        {"norm_layer": partial(torch.nn.LayerNorm, eps=1e-4)},
    ],
)
def test_the_same_weights_in_another_model_are_noticed(other: dict[str, object], tmp_path: Path) -> None:
    vpt.attach(vit(), "linear", num_classes=2).save_pretrained(tmp_path)
    stranger = vit(**other)
    stranger.load_state_dict(vit().state_dict())
    with pytest.raises(
        VptError, match=r"was trained with (heads|activations|read|eps) .*, and the backbone loaded here"
    ):
        vpt.load(tmp_path, backbone=stranger)
    assert vpt.load(tmp_path, backbone=stranger, any_backbone=True).classes == ("0", "1")


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("library", ["timm", "transformers", "open_clip"])
def test_models_of_other_channels(channels: int, library: str) -> None:
    if library == "timm":
        model = vit(in_chans=channels)
    elif library == "transformers":
        model = transformers.ViTModel(transformers.ViTConfig(**HF, num_channels=channels))
    else:
        model = clip()
        model.visual.conv1 = torch.nn.Conv2d(channels, 24, 8, 8, bias=False)
    given = {"mean": [0.5] * channels, "std": [0.25] * channels}
    made = vpt.attach(model, "vpt-deep", num_tokens=2, num_classes=2, preprocessing=given)
    assert made(torch.zeros(2, channels, 32, 32)).shape == (2, 2)
    with pytest.raises(VptError, match=rf"takes images \(B, {channels}, H, W\) and got \(2, 3, 32, 32\)"):
        made(torch.zeros(2, 3, 32, 32))
    if channels == 1:
        assert made.preprocessing.transform()(PHOTO).shape == (1, 32, 32)
        assert made.predict(PHOTO).label in ("0", "1")
        grey = vpt.attach(model, "linear", num_classes=2).preprocessing
        assert (len(grey.mean), len(grey.std)) == (1, 1)
        assert as_transform("crop", grey)(PHOTO).shape == (1, 32, 32)
    else:
        with pytest.raises(VptError, match="takes images of 4 channels, and a picture has 3: give tensors"):
            made.predict(PHOTO)
        with pytest.raises(VptError, match=r"give preprocessing=.* with mean and std of 4 numbers"):
            vpt.attach(model, "linear", num_classes=2)
    with pytest.raises(VptError, match=f"this backbone takes images of {channels} channels; give a number for each"):
        vpt.attach(model, "linear", num_classes=2, preprocessing={"mean": [0.5] * 3, "std": [0.5] * 3})


def test_images_of_twelve_channels_are_trained_on_as_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = {"mean": [0.0] * 12, "std": [1.0] * 12}
    model = vpt.attach(vit(in_chans=12), "vpt-shallow", num_tokens=2, num_classes=2, preprocessing=given)
    bands = [(torch.randn(12, 32, 32) + index % 2, index % 2) for index in range(8)]
    vpt.fit(model, bands, epochs=1, batch_size=4, lr=0.1, progress=False, workers=0)
    model.save_pretrained(tmp_path / "saved")
    images = torch.stack([image for image, _ in bands])
    assert torch.equal(vpt.load(tmp_path / "saved", backbone=vit(in_chans=12))(images), model.eval()(images))


def test_the_border_that_no_patch_sees(capsys: pytest.CaptureFixture[str]) -> None:
    """A large one of a model in hand is made visible; one that published weights have stays as their code has it."""
    large = vpt.attach(vit(img_size=22), "linear", num_classes=2)
    assert "patches of 8 pixels do not divide 22×22" in capsys.readouterr().err
    images = torch.rand(1, 3, 22, 22)
    border = images.clone()
    border[..., 16:] = 0
    assert not torch.equal(large(images), large(border))
    model = vit(img_size=66)
    small = vpt.attach(model, "linear", num_classes=2)
    images = torch.rand(1, 3, 66, 66)
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(small.features(images), expected)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timm/vit_tiny_patch16_224", {"image_size": 44}),
        ("timm/vit_tiny_patch16_224", {"image_size": 0}),
        ("timm/vit_tiny_patch16_224", {"image_size": "large"}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"global_pool": "foo"}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"act_layer": "foo"}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"embed_dim": 50}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"num_heads": 0}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"num_heads": -3}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"img_size": [32]}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"patch_size": 300}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"depth": 0}}),
        ("timm/vit_tiny_patch16_224", {"backbone_options": {"pretrained_cfg": {"mean": [1]}}}),
        ("open_clip/ViT-B-32", {"backbone_options": {"force_preprocess_cfg": 3}}),
        ("torchvision/vit_b_16", {"image_size": 100}),
        ("torchvision/vit_b_16", {"backbone_options": {"num_layers": "two"}}),
        ("open_clip/ViT-B-32", {"image_size": 50}),
        ("open_clip/x", {"backbone_options": {"config": {"embed_dim": 8}}}),
        (
            "open_clip/x",
            {"backbone_options": {"config": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"width": "x"}}}},
        ),
        ("hf/x/y", {"backbone_options": {"depth": 3}}),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, object]) -> None:
    with pytest.raises(VptError, match=r"\.$"):
        vpt.create(name, "linear", num_classes=2, pretrained=False, **options)


def test_images_that_are_no_real_numbers() -> None:
    with pytest.raises(VptError, match=r"takes preprocessed images, real numbers, and got torch\.uint8: see model"):
        vpt.attach(vit(), "linear", num_classes=2)(torch.zeros(1, 3, 32, 32).byte())


def test_more_patches_than_attention_can_hold() -> None:
    with pytest.raises(VptError, match=r"images of 1600×1600 are 40,000 patches of 8 pixels.*at most 32,768"):
        vpt.attach(vit(img_size=1600), num_classes=2)
    any_size = vpt.attach(
        timm.create_model("vit_tiny_patch16_224", **{**SMALL, "dynamic_img_size": True}), num_classes=2
    )
    with pytest.raises(VptError, match=r"images of 1600×1600 are 40,000 patches"):
        any_size(torch.zeros(1, 3, 1600, 1600))


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32), (32, 32, 3)])
def test_images_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(VptError, match=r"takes images \(B, 3, H, W\) and got"):
        vpt.attach(vit(), "linear", num_classes=2)(torch.zeros(shape))


def test_sizes_of_any_kind_that_timm_takes() -> None:
    model = vpt.attach(timm.create_model("vit_tiny_patch16_224", **{**SMALL, "dynamic_img_size": True}), num_classes=2)
    assert model(torch.zeros(1, 3, 40, 24)).shape == (1, 2)
    with pytest.raises(VptError, match="patches of 8 pixels do not divide 36×24"):
        model(torch.zeros(1, 3, 36, 24))
    oblong = transformers.ViTModel(transformers.ViTConfig(**{**HF, "image_size": [32, 64]}))
    assert vpt.attach(oblong, num_classes=2).predict(PHOTO).label in ("0", "1")
