"""The locked tower of the measuring model is timm's DeiT-Tiny, in another library's layout."""

from functools import partial

import open_clip
import timm
import torch
from safetensors.torch import save_file

from benchmarks import lit

SIDE = 80


def test_the_locked_tower_gives_timm_s_features(tmp_path):
    torch.manual_seed(0)
    # The two libraries' norms differ in epsilon, by default.
    model = timm.create_model("deit_tiny_patch16_224", norm_layer=partial(torch.nn.LayerNorm, eps=1e-5)).eval()
    save_file(model.state_dict(), tmp_path / "deit.safetensors")
    visual, rows = lit.locked_tower(str(tmp_path / "deit.safetensors"), SIDE)
    model.set_input_size(img_size=SIDE)
    images = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(visual(images), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(rows, model.head.weight.detach())


def test_texts_are_encoded_as_open_clip_does():
    model = open_clip.model.CLIP(**lit.config(SIDE)).eval()
    texts = ["a dog", "a photo of a grand piano"]
    with torch.no_grad():
        torch.testing.assert_close(
            lit.encode(model, texts), model.encode_text(open_clip.tokenize(texts)), atol=1e-5, rtol=0
        )
