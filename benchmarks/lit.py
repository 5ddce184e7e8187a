"""`python -m benchmarks.lit`: an image-text model for measuring methods offline, where no pre-trained CLIP can be had.

DeiT-Tiny's image tower (ImageNet-1k) is locked, and a small text tower is trained against it ("LiT": Zhai et al., CVPR
2022). Pairs are Flickr8k's training photographs and captions, and the rows of DeiT's own classifier, taken as images of
its 1,000 classes, with their names. What comes out is a folder in open_clip's layout, to be named as
`backbone=open_clip/local-dir:FOLDER`; good for comparing methods, no more.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from tqdm import tqdm

from vpt import data as datasets
from vpt.data.loading import loader
from vpt.data.pairs import PairSet
from vpt.preprocessing import Preprocessing
from vpt.text import ensemble

WIDTH, PATCH, DEPTH = 192, 16, 12
LONGEST, CAPTIONS, CLASSES = 20, 64, 320


def config(side: int) -> dict[str, Any]:
    """open_clip's, of a model for images of `side` pixels."""
    vision = {"image_size": side, "patch_size": PATCH, "width": WIDTH, "layers": DEPTH, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": WIDTH, "heads": 3, "layers": 3}
    return {"embed_dim": WIDTH, "vision_cfg": vision | {"no_ln_pre": True}, "text_cfg": text}


def locked_tower(weights: str, side: int) -> tuple[Any, Tensor]:
    """DeiT-Tiny for images of `side` pixels in open_clip's layout, and its classifier's rows (1000, 192)."""
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    visual = open_clip.model.CLIP(**config(side)).visual
    bias = state["patch_embed.proj.bias"]
    positions = resample_abs_pos_embed(state["pos_embed"], [side // PATCH] * 2)[0]
    # open_clip's patches have no bias, and every patch has a position.
    positions[1:] += bias
    converted = {
        "class_embedding": state["cls_token"][0, 0],
        "positional_embedding": positions,
        "conv1.weight": state["patch_embed.proj.weight"],
        "ln_post.weight": state["norm.weight"],
        "ln_post.bias": state["norm.bias"],
        "proj": torch.eye(WIDTH),
    }
    parts = {
        "ln_1": "norm1",
        "ln_2": "norm2",
        "attn.out_proj": "attn.proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for layer in range(DEPTH):
        ours, theirs = f"transformer.resblocks.{layer}", f"blocks.{layer}"
        for kind in ("weight", "bias"):
            converted[f"{ours}.attn.in_proj_{kind}"] = state[f"{theirs}.attn.qkv.{kind}"]
            converted |= {f"{ours}.{a}.{kind}": state[f"{theirs}.{b}.{kind}"] for a, b in parts.items()}
    visual.load_state_dict(converted)
    return visual.eval().requires_grad_(False), state["head.weight"]


@torch.no_grad()
def features_of(visual: nn.Module, pairs: Any, transform: Any) -> Tensor:
    """Image features (N, 192), not normalised."""
    batches = loader(pairs, transform, batch_size=64)
    return torch.cat([visual(images) for images, _ in tqdm(batches, "image features", mininterval=10)])


def contrast(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of features (N, F)."""
    logits = scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def main() -> None:
    """Train the text tower, and write the model."""
    given = argparse.ArgumentParser(prog="python -m benchmarks.lit", description=__doc__)
    given.add_argument("weights", help="DeiT-Tiny's, as safetensors in timm's layout")
    given.add_argument("out", type=Path, help="the folder to write; its parent may hold nothing of this name")
    given.add_argument("--steps", type=int, default=800)
    given.add_argument("--side", type=int, default=112, help="of its images, in pixels: a multiple of 16")
    options = given.parse_args()
    if options.out.exists():
        given.error(f"{options.out} is there already: name another folder.")
    torch.manual_seed(0)
    generator = random.Random(0)
    preprocessing = Preprocessing((options.side, options.side))
    visual, rows = locked_tower(options.weights, options.side)
    flickr = datasets.load("flickr8k", val_fraction=0.05, seed=0, check=False)
    assert isinstance(flickr, PairSet)
    images = features_of(visual, flickr.train, preprocessing.transform())
    # Cosines tell images apart better around their mean, which the last norm's bias can take away.
    mean = images.mean(0)
    visual.ln_post.bias -= mean
    images -= mean
    rows = rows - rows.mean(0)
    names = [ImageNetInfo().index_to_description(label).split(", ") for label in range(len(rows))]
    sentences = ["{}", "a {}", "a photo of a {}.", *ensemble("openai-7")]

    model = open_clip.model.CLIP(**config(options.side))
    model.visual = visual
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=options.steps, pct_start=0.1)
    model.train()
    for step in tqdm(range(options.steps), "steps", mininterval=10):
        chosen = torch.randint(len(images), (CAPTIONS,)).unique()
        captions = [generator.choice(flickr.train.captions[i]) for i in chosen.tolist()]
        labels = torch.randperm(len(rows))[:CLASSES]
        # The first name of a class is the usual one.
        synonyms = [names[label][0] if generator.random() < 0.5 else generator.choice(names[label]) for label in labels]
        classes = [generator.choice(sentences).format(name) for name in synonyms]
        text, prototypes = encode(model, captions), encode(model, classes)
        alike = 1 - F.cosine_similarity(prototypes, rows[labels]).mean()
        loss = contrast(images[chosen], text, model.logit_scale)
        loss = loss + contrast(rows[labels], prototypes, model.logit_scale) + alike
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        if step % 100 == 99:
            tqdm.write(f"step {step + 1}: loss {loss.item():.3f}, cosine {1 - alike.item():.3f}")
    write(model.eval(), preprocessing, options.out)


def encode(model: Any, texts: list[str]) -> Tensor:
    """Features of texts, of at most 20 tokens and cut to the longest of them."""
    ids = open_clip.tokenize(texts, context_length=LONGEST)
    length = int(ids.argmax(dim=-1).max()) + 1
    x = model.token_embedding(ids[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(ids)), ids.argmax(dim=-1)] @ model.text_projection


def write(model: nn.Module, preprocessing: Preprocessing, folder: Path) -> None:
    """In the layout that open_clip reads by "local-dir:"."""
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    given = {"size": list(preprocessing.size), "mean": list(preprocessing.mean), "std": list(preprocessing.std)}
    facts = {
        "model_cfg": config(preprocessing.size[0]),
        "preprocess_cfg": given | {"interpolation": "bicubic", "resize_mode": "shortest"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
