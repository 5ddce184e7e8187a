"""Small random encoders that are not opened, with their library's own pooled features."""

from functools import partial
from typing import Any

import timm
from torch import Tensor, nn

from tests.zoo import Example, pooled, shaken

CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}


def resnet(name: str = "resnet18", **options: object) -> nn.Module:
    layers = {"layers": (1, 1, 1, 2), "channels": (8, 8, 16, 16)}
    return shaken(partial(timm.create_model, name, num_classes=7, **{**layers, **options}))


def convnext() -> nn.Module:
    return shaken(partial(timm.create_model, "convnext_atto", num_classes=7, **CONVNEXT))


def torchvision_resnet() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return shaken(partial(ResNet, BasicBlock, [1, 1, 1, 1], num_classes=7))


def torchvision_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return shaken(partial(ConvNeXt, [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 1)], num_classes=7))


def torchvision_features(classifier: str) -> Any:
    """What the last linear layer is given, by a hook on the library's own forward pass."""

    def features(model: Any, images: Tensor) -> Tensor:
        taken: list[Tensor] = []
        with model.get_submodule(classifier).register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0])):
            model(images)
        return taken[0]

    return features


def hf(kind: str, **options: object) -> nn.Module:
    import transformers

    base = kind.partition("Model")[0].partition("For")[0]
    sizes = {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2, **options}
    return shaken(lambda: getattr(transformers, kind)(getattr(transformers, base + "Config")(**sizes)))


def clip_resnet() -> nn.Module:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, image_size=64)
    return shaken(partial(CLIP, embed_dim=12, vision_cfg=vision, text_cfg=CLIPTextCfg(**TEXT)))


def pvt() -> nn.Module:
    from transformers import PvtConfig, PvtModel

    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    return shaken(lambda: PvtModel(PvtConfig(image_size=64, **sizes)))


def clip_convnext() -> nn.Module:
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

    def make() -> nn.Module:
        vision = CLIPVisionCfg(timm_model_name="convnext_atto", timm_pool="", timm_proj="linear", image_size=64)
        model = CustomTextCLIP(embed_dim=12, vision_cfg=vision, text_cfg=CLIPTextCfg(**TEXT))
        model.visual.trunk = timm.create_model("convnext_atto", num_classes=0, **CONVNEXT)
        model.visual.head.proj = nn.Linear(16, 12)
        return model

    return shaken(make)


class Hub(nn.Module):
    """As models of torch.hub are: of no library, images to features."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual(width) for width in (3, 3)))
        self.norm = nn.LayerNorm(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.blocks(images).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x).relu()


def timm_own(model: Any, images: Tensor) -> Tensor:
    """What timm's model without classifier says."""
    model.reset_classifier(0)
    return model(images)


WHOLE: dict[str, Example] = {
    "timm resnet": Example(resnet, timm_own),
    "timm convnext": Example(convnext, timm_own),
    "torchvision resnet": Example(torchvision_resnet, torchvision_features("fc")),
    "torchvision convnext": Example(torchvision_convnext, torchvision_features("classifier.2")),
    "hf resnet": Example(
        partial(hf, "ResNetModel", embedding_size=8, layer_type="basic"), lambda m, x: pooled(m, x).flatten(1)
    ),
    "hf resnet, classifier": Example(
        partial(hf, "ResNetForImageClassification", embedding_size=8, layer_type="bottleneck"),
        torchvision_features("classifier.1"),
    ),
    "hf convnext": Example(partial(hf, "ConvNextModel"), pooled),
    "hf pvt": Example(pvt, lambda m, x: m(pixel_values=x).last_hidden_state[:, 0], (64, 64)),
    "open_clip resnet": Example(clip_resnet, lambda m, x: m.encode_image(x), (64, 64)),
    "open_clip convnext": Example(clip_convnext, lambda m, x: m.encode_image(x), (64, 64)),
    "hub": Example(lambda: shaken(Hub), lambda m, x: m(x)),
}

SEEN = {"size": (32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
