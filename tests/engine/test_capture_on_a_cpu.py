"""Captures where there is no GPU: nothing is done for them, and they are refused where they are asked for."""

import os
import subprocess
import sys
from typing import Any

import pytest

import vpt
from tests.engine.test_capture import RUN, Drawn
from tests.text_models import CLASSES, image_text_model
from vpt import VptError


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [(True, r"steps cannot be captured \(there is no GPU that captures\): leave it out"), ("yes", "not one of auto")],
)
def test_what_cannot_be_captured_is_told_before_training(graph: Any, sentence: str) -> None:
    model = vpt.attach(image_text_model(), "coop", classes=CLASSES)
    with pytest.raises(VptError, match=sentence):
        vpt.fit(model, Drawn(), graph=graph, **RUN)


def test_nothing_is_imported_or_started_for_captures_where_there_is_no_gpu() -> None:
    code = (
        "import sys, torch, vpt\n"
        "model = vpt.create('vpt/vit-nano', 'vpt-deep', num_classes=2)\n"
        "data = [(torch.randn(3, 32, 32), i % 2) for i in range(8)]\n"
        "before = set(sys.modules)\n"
        "vpt.fit(model, data, data, epochs=2, batch_size=2, progress=False)\n"
        "assert not torch.cuda.is_initialized()\n"
        "heavy = ('torch._inductor', 'torch._dynamo', 'torch.cuda.graphs', 'triton')\n"
        "new = [name for name in set(sys.modules) - before if name.startswith(heavy)]\n"
        "assert not new, new\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment)
