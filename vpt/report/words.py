"""What learned context is near to: the vocabulary's tokens with the nearest embeddings."""

from __future__ import annotations

from typing import Any

import torch

from vpt.errors import VptError


@torch.no_grad()
def nearest_words(model: Any, k: int = 5) -> list[dict[str, Any]]:
    """The `k` nearest words of the vocabulary to each token of learned context, by Euclidean distance.

    As in Zhou et al., IJCV 2022, section 4.4. A word that is near need not be what a token has come to mean:
    learned tokens often lie farther from all words than words lie from each other.

    Args:
        model: a `Prompted` with text features as classifier.
        k: words a token.

    Returns:
        A row for each token: "class" where each class has context of its own, "token" from 1, and "words", pairs of
        a word, as `TextTower.vocabulary` spells it, and its distance, the nearest first.

    Raises:
        VptError: the method learns no context of texts, k is out of range, or the tokenizer does not tell its words.
    """
    context = None if model.text is None else model.method.text_prompts.context(None)
    if context is None:
        raise VptError(f"{model.method.name} learns no context of texts: there are no words to be near to.")
    words = model.text.tower.vocabulary()
    if not 1 <= k <= len(words):
        raise VptError(f"k={k}: the vocabulary has 1 to {len(words)} words to be near to.")
    ids = torch.arange(len(words), device=context.device)
    embeddings = model.text.tower.words(ids[None])[0].to(context.dtype)
    rows = []
    for number, tokens in enumerate(context):
        # Without the matrix product, whose rounding would part a word from itself.
        distances = torch.cdist(tokens, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
        whose = {"class": model.classes[number]} if len(context) > 1 else {}
        for token, (far, near) in enumerate(zip(*distances.topk(k, largest=False), strict=True), 1):
            pairs = [(words[i], d) for i, d in zip(near.tolist(), far.tolist(), strict=True)]
            rows.append(whose | {"token": token, "words": pairs})
    return rows
