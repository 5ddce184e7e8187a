"""PromptKD: Unsupervised Prompt Distillation, Li et al., CVPR 2024, https://arxiv.org/abs/2403.02781."""

from __future__ import annotations

from vpt.errors import VptError
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.methods.parts.taught import Distilled, Student
from vpt.methods.parts.tokens import Tokens


class PromptKD(Method):
    """Image prompts and a small network that learn what a larger model says of unlabelled images.

    The teacher is a trained model with class names as classifier, PromptSRC on a larger CLIP in the paper. The student
    has prompts in its image encoder, a network to the teacher's features, and the teacher's texts as classifier
    (section 3.3). The loss is weight · T² · KL(teacher ‖ student) (equation 5, divided by the number of classes as in
    the code): no label is looked at, and images of all classes are learned from whose names the teacher is given. In
    `base-to-new` these are base and new ones.

    Args:
        tower: the image encoder.
        text: the text encoder, of which the logit scale alone is used.
        num_tokens: image prompts a block.
        depth: how many blocks have them; by default 9, or all of an encoder that has fewer.
        teacher: a run, a folder or "user/name" of the hub with the trained model; it is needed for training alone.
        weight: of the divergence; the code's is 200 for Aircraft, Flowers and DTD.
        temperature: T.

    Raises:
        VptError: no text encoder, an option out of its range, or a teacher that sees other images than the student.
    """

    name = "promptkd"
    source = "Li et al., CVPR 2024"
    head = "text"
    heads = ("text",)
    for_training = ("teacher",)
    transductive = True

    def __init__(
        self,
        tower: Encoder,
        text: TextEncoder | None = None,
        *,
        num_tokens: int = 4,
        depth: int | None = None,
        teacher: str | None = None,
        weight: float = 1000.0,
        temperature: float = 1.0,
    ) -> None:
        if text is None:
            raise VptError(f"{self.name} compares images with texts: make it from an image-text model.")
        if num_tokens < 1:
            raise VptError(f"num_tokens={num_tokens} leaves no prompt to learn: give 1 or more.")
        if depth is not None and not 1 <= depth <= tower.depth:
            raise VptError(f"depth={depth}: {self.name} takes 1 to {tower.depth}, the blocks of the encoder.")
        blocks = range(min(tower.depth, 9) if depth is None else depth)
        super().__init__(
            prompts=Tokens(tower, blocks, num_tokens=num_tokens, init="normal", before_norm=True, behind=True),
            student=Student(tower.num_features, self.name),
            distilled=Distilled(weight, temperature),
        )
        self.teacher = teacher
