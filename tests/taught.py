"""A teacher for methods that learn from one."""

import torch
from torch import nn

import vpt
from tests.text_models import image_text_model


def taught(model: vpt.Prompted, backbone: nn.Module | None = None) -> vpt.Prompted:
    """The model, which learns from another frozen one where its method does; `backbone` is the teacher's."""
    if model.method.classifier.needs_teacher:
        with torch.random.fork_rng():
            backbone = image_text_model(seed=5) if backbone is None else backbone
        teacher = vpt.attach(backbone, "zero-shot", classes=model.classes, preprocessing=model.preprocessing.to_dict())
        model.teach(teacher.to(model.text.logit_scale.dtype))
    return model
