"""Nothing that comes from elsewhere runs: models, weights and configs that try to, and what becomes of them."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import psutil
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

import vpt
from tests.towers.test_hf_text import clip_model
from tests.zoo import HF, vit
from vpt import VptError
from vpt.cli import main
from vpt.towers.load import checked_options

SMALL = {"image_size": 32, "backbone_options": {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 3}}
CLIP = {
    "embed_dim": 12,
    "vision_cfg": {"layers": 1, "width": 24, "head_width": 8, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
TIMM = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {}}
TOKENIZER = """
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
class Own(PreTrainedTokenizerFast):
    def __init__(self, **options):
        words = models.WordLevel({"a": 2, "b": 3, "<s>": 0, "</s>": 1}, unk_token="a")
        super().__init__(tokenizer_object=Tokenizer(words), pad_token="</s>", eos_token="</s>", bos_token="<s>")
"""
CODE = "from pathlib import Path\nPath({marker!r}).write_text('ran')\n"


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there only if something from elsewhere was run; and nobody is asked whether it may."""

    def asked(*words: object) -> str:
        raise AssertionError(f"asked in the terminal: {words}")

    monkeypatch.setattr("builtins.input", asked)
    return tmp_path / "ran"


class Malicious:
    """What a pickle makes of it is a call of a function."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


def refused(make: Callable[[], object], marker: Path, sentence: str = r"\.$") -> None:
    with pytest.raises(VptError, match=sentence):
        make()
    assert not marker.exists()


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_marker_tells(marker: Path) -> None:
    """Otherwise no test here could fail."""
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists()


@pytest.mark.parametrize("backbone", ["timm/vit_tiny_patch16_224", "open_clip/ViT-B-32", "torchvision/vit_b_32"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.npz"])
def test_a_pickle_as_weights(backbone: str, name: str, marker: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": Malicious(marker)}, tmp_path / name)
    refused(
        lambda: vpt.create(backbone, num_classes=2, weights=tmp_path / name),
        marker,
        r"holds more than tensors \(.*pathlib\.(_local\.)?Path",
    )


def test_a_plain_pickle_and_an_array_of_objects_as_weights(marker: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": Malicious(marker)}))
    np.savez(tmp_path / "w.npz", **{"embedding/kernel": np.array([Malicious(marker)], dtype=object)})
    for name in ("w.pt", "w.npz"):
        refused(
            lambda name=name: vpt.create("timm/vit_tiny_patch16_224", num_classes=2, weights=tmp_path / name), marker
        )


@pytest.mark.parametrize(
    ("library", "config", "file"),
    [
        ("timm/local-dir:", "config.json", "pytorch_model.bin"),
        ("open_clip/local-dir:", "open_clip_config.json", "open_clip_pytorch_model.bin"),
        ("hf/", "config.json", "pytorch_model.bin"),
    ],
)
def test_a_pickle_in_the_folder_of_a_model(library: str, config: str, file: str, marker: Path, tmp_path: Path) -> None:
    configs = {
        "timm/local-dir:": TIMM,
        "open_clip/local-dir:": {"model_cfg": CLIP},
        "hf/": transformers.ViTConfig(**HF).to_dict(),
    }
    write(tmp_path / "model" / config, configs[library])
    torch.save({"a": Malicious(marker)}, tmp_path / "model" / file)
    refused(lambda: vpt.create(f"{library}{tmp_path / 'model'}", "linear", num_classes=2), marker)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open_clip/ViT-B-32", {"weights_only": False}),
        ("open_clip/ViT-B-32", {"pretrained_image_path": "w.pt"}),
        ("open_clip/ViT-B-32", {"cache_dir": "/tmp"}),
        ("open_clip/ViT-B-32", {"trust_remote_code": True}),
        ("open_clip/x", {"pretrained": False, "config": {**CLIP, "text_cfg": {"hf_model_name": "x/y"}}}),
        ("open_clip/x", {"pretrained": False, "config": {**CLIP, "vision_cfg": {"timm_model_name": "hf-hub:x/y"}}}),
        ("timm/vit_tiny_patch16_224", {"checkpoint_path": "w.pt"}),
        ("timm/vit_tiny_patch16_224", {"pretrained_cfg_overlay": {"file": "w.pt"}}),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "depth": 10**9}),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "embed_dim": 10**5, "depth": 900}),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "img_size": 10**6}),
        ("timm/vit_tiny_patch16_224", {"pretrained": False, "act_layer": "os.system('ls')"}),
        ("hf/x/y", {"trust_remote_code": True}),
        ("torchvision/vit_b_32", {"progress": "a b"}),
    ],
)
def test_options_that_a_saved_model_may_not_bring(
    name: str, options: dict[str, object], marker: Path, tmp_path: Path
) -> None:
    torch.save({"a": Malicious(marker)}, tmp_path / "w.pt")
    vpt.attach(vit(), "linear", num_classes=2).save_pretrained(tmp_path / "m")
    facts = json.loads((tmp_path / "m/vpt.json").read_text())
    facts["backbone"] |= {"name": name, "options": options}
    write(tmp_path / "m/vpt.json", {key: value for key, value in facts.items() if key not in ("digest", "format")})
    refused(lambda: vpt.load(tmp_path / "m"), marker, "brings the backbone option|asks for|no word or number")


def test_options_that_let_code_run_are_not_taken_from_configs() -> None:
    for key in ("weights_only", "trust_remote_code"):
        with pytest.raises(VptError, match=f"backbone.{key} lets code run"):
            checked_options("open_clip/ViT-B-32", {key: False})


def code_of(folder: Path, marker: Path, name: str) -> str:
    """A module with a class of `name` in a folder, which leaves a mark where it is imported."""
    write(folder / "evil.py", CODE.format(marker=str(marker)) + f"class {name}: pass\n")
    return f"evil.{name}"


@pytest.mark.parametrize("config", [{"tokenizer_kwargs": {"trust_remote_code": True}}, {}])
def test_the_tokenizer_of_an_open_clip_config(config: dict[str, object], marker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    text = {**CLIP["text_cfg"], "hf_tokenizer_name": "x", **config}
    write(folder / "open_clip_config.json", {"model_cfg": {**CLIP, "text_cfg": text}})
    save_file(open_clip.model.CLIP(**CLIP).state_dict(), folder / "open_clip_model.safetensors")
    code = code_of(folder, marker, "Tokenizer")
    write(folder / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": [code, None]}, "tokenizer_class": "Strange"})
    refused(
        lambda: vpt.create(f"open_clip/local-dir:{folder}", "zero-shot", classes=["a", "b"]).predict(
            np.zeros((8, 8, 3), np.uint8)
        ),
        marker,
    )


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_model_of_transformers_with_code_of_its_own(pretrained: bool, marker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    code = {"AutoConfig": code_of(folder, marker, "Config"), "AutoModel": code_of(folder, marker, "Model")}
    write(folder / "config.json", {"model_type": "strange", "auto_map": code})
    refused(
        lambda: vpt.create(f"hf/{folder}", num_classes=2, pretrained=pretrained),
        marker,
        "custom code.*: if you trust what it runs, say --trust-remote-code",
    )


def test_the_processor_and_the_tokenizer_of_transformers_with_code_of_their_own(marker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    sides = {key: {**HF, "projection_dim": 12} for key in ("vision_config", "text_config")}
    sides["text_config"] |= {"vocab_size": 64, "max_position_embeddings": 16}
    transformers.CLIPModel(transformers.CLIPConfig(**sides, projection_dim=12)).save_pretrained(folder)
    tokenizer = {"AutoTokenizer": [code_of(folder, marker, "Tokenizer"), None]}
    write(folder / "tokenizer_config.json", {"auto_map": tokenizer, "tokenizer_class": "Strange"})
    refused(
        lambda: vpt.create(f"hf/{folder}", "zero-shot", classes=["a", "b"]).predict(np.zeros((8, 8, 3), np.uint8)),
        marker,
    )
    processor = {"AutoImageProcessor": code_of(folder, marker, "Processor")}
    write(folder / "preprocessor_config.json", {"auto_map": processor, "image_processor_type": "Strange"})
    refused(lambda: vpt.create(f"hf/{folder}", "linear", num_classes=2), marker)
    live = transformers.AutoModel.from_pretrained(folder)
    refused(lambda: vpt.attach(live, "linear", num_classes=2), marker)


def test_code_of_a_tokenizer_runs_at_the_user_s_own_word(
    marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The word holds for one command, or one call, and nothing that is written keeps it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)
    clip_model().save_pretrained("m")
    transformers.CLIPImageProcessor(size=32, crop_size=32).save_pretrained("m")
    code = CODE.format(marker=str(marker)) + TOKENIZER
    write(Path("m/words.py"), code)
    tokenizer = {"auto_map": {"AutoTokenizer": ["words.Own", None]}, "tokenizer_class": "Own"}
    write(Path("m/tokenizer_config.json"), tokenizer)
    Image.new("RGB", (8, 8)).save("photo.png")
    command = ["predict", "hf/./m", "photo.png", "--labels", "a", "b"]
    assert main(command) == 2
    assert "say --trust-remote-code" in capfd.readouterr().err
    assert not marker.exists()
    assert main([*command, "--trust-remote-code"]) == 0, capfd.readouterr().err
    assert marker.exists()
    assert main(["classes", "hf/./m", "a", "b", "--out", "saved", "--trust-remote-code"]) == 0
    assert "trust" not in Path("saved/vpt.json").read_text()
    with pytest.raises(VptError, match="trust_remote_code=True"):
        vpt.load("saved").predict("photo.png")
    vpt.load("saved", trust_remote_code=True).predict("photo.png")


@pytest.mark.parametrize(
    ("library", "config", "content"),
    [
        ("hf/", "config.json", {"model_type": "vit", **HF, "hidden_size": 10**7}),
        ("hf/", "config.json", {"model_type": "vit", **HF, "num_hidden_layers": 10**9}),
        ("hf/", "config.json", {"model_type": "dinov2", **HF, "image_size": 10**8}),
        ("hf/", "config.json", {"model_type": "clip", "text_config": {"vocab_size": 10**12}}),
        ("timm/local-dir:", "config.json", {**TIMM, "model_args": {"depth": 10**9}}),
        ("timm/local-dir:", "config.json", {**TIMM, "pretrained_cfg": {"input_size": [3, 10**8, 10**8]}}),
        ("open_clip/local-dir:", "open_clip_config.json", {"model_cfg": {**CLIP, "text_cfg": {"vocab_size": 10**12}}}),
        ("open_clip/local-dir:", "open_clip_config.json", {"model_cfg": {**CLIP, "vision_cfg": {"layers": 10**9}}}),
    ],
)
def test_sizes_that_no_memory_has(library: str, config: str, content: object, marker: Path, tmp_path: Path) -> None:
    write(tmp_path / config, content)
    refused(lambda: vpt.create(f"{library}{tmp_path}", "linear", num_classes=2, pretrained=False), marker, "asks for")


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '"x"', "{}", '{"architecture": 3}', '{"model_cfg": [1]}', "\x00"]
)
@pytest.mark.parametrize(
    ("library", "config"),
    [("timm/local-dir:", "config.json"), ("open_clip/local-dir:", "open_clip_config.json"), ("hf/", "config.json")],
)
def test_configs_that_are_none(library: str, config: str, content: str, marker: Path, tmp_path: Path) -> None:
    write(tmp_path / config, content)
    refused(lambda: vpt.create(f"{library}{tmp_path}", "linear", num_classes=2), marker)


def test_a_model_of_timm_s_own_is_not_held_up(tmp_path: Path) -> None:
    """The checks let through what is harmless."""
    options = {"depth": 1, "embed_dim": 24, "num_heads": 3, "patch_size": 8, "img_size": 32}
    write(tmp_path / "config.json", {**TIMM, "num_classes": 2, "model_args": options})
    state = timm.create_model("vit_tiny_patch16_224", num_classes=2, **options).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    vpt.create(f"timm/local-dir:{tmp_path}", "linear", num_classes=2).save_pretrained(tmp_path / "saved")
    assert vpt.load(tmp_path / "saved").classes == ("0", "1")


def test_an_archive_that_unpacks_to_more_than_the_memory(
    marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(10**7))
    assert (tmp_path / "w.npz").stat().st_size < 10**5
    free = psutil.virtual_memory()._replace(available=10**6)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    refused(
        lambda: vpt.create("timm/vit_tiny_patch16_224", num_classes=2, weights=tmp_path / "w.npz"),
        marker,
        "memory free",
    )


def test_an_archive_of_torchscript_with_another_pickle_in_it(marker: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Malicious(marker)))
        archive.writestr("w/constants.pkl", pickle.dumps(Malicious(marker)))
    refused(
        lambda: vpt.create("open_clip/ViT-B-32/openai", num_classes=2, weights=tmp_path / "w.pt"),
        marker,
        "is no TorchScript archive that can be read",
    )
