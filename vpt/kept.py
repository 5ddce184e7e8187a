"""What is read out of images, and what training leaves as it is of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Kept:
    """What a `Prompted` has of images."""

    def kept(self, images: Tensor) -> Tensor:
        """What the model takes in the place of images (B, 3, H, W).

        Features (B, F), with what prompts are read out as behind them, where they are; or what a projection is given
        that is trained, which training leaves as it is.
        """
        model: Any = self
        model.tower.projects = not self.trains_projection
        try:
            found: Tensor = model._read(images)
        finally:
            model.tower.projects = True
        return found

    @property
    def kept_size(self) -> int:
        """Numbers of an image that `kept` gives."""
        model: Any = self
        tower = model.tower
        if self.trains_projection:
            return tower.width
        return tower.num_features + (tower.width if model.method.image_prompts.read_out else 0)

    def of_image(self, read: Tensor) -> Tensor:
        """Features (B, F) of all that is read out, without what prompts are read out as behind them, (B, F + D)."""
        model: Any = self
        return read[:, : model.tower.num_features] if model.method.image_prompts.read_out else read

    @property
    def keeps_images(self) -> bool:
        """Whether there is something of images that can be computed once, as `kept` does."""
        model: Any = self
        return model.image_is_frozen or self.trains_projection

    @property
    def trains_projection(self) -> bool:
        """Whether the last linear map is all of the image side that is trained."""
        model: Any = self
        weight = model.tower.projection_weight()
        # Asked for in each pass: of most models there is no need to look at every parameter.
        if weight is None or not weight.requires_grad or model.method.prompts_image:
            return False
        return sum(parameter.requires_grad for parameter in model.tower.parameters()) == 1
