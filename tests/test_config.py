"""Experiments as YAML: what is read, what the command line changes, what is refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vpt import VptError, build, config

COMMANDS = ("train", "sweep", "compare", "pretrain", "few-shot", "base-to-new", "transfer")

ROOT = Path(__file__).parents[1]
MINIMAL = "backbone: vpt/vit-nano\nmethod: linear\ndata: digits\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def test_a_plain_string_is_short_for_a_name(tmp_path: Path) -> None:
    read = config.read(write(tmp_path, MINIMAL))
    assert (read.backbone, read.method, read.data) == ({"name": "vpt/vit-nano"}, {"name": "linear"}, {"name": "digits"})


def test_the_run_directory_is_named_after_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    for said in ([], ["out="], ["out=null"]):
        assert config.read(path, said).out == Path("runs/experiment")


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train: {epochs: 3, lr: 0.1}\nseed: 1\n")
    read = config.read(path, ["train.epochs=5", "seed=2", "method.name=vpt-deep", "method.num_tokens=4", "out=x/y"])
    assert read.train == {"epochs": 5, "lr": 0.1}
    assert read.method == {"name": "vpt-deep", "num_tokens": 4}
    assert (read.seed, read.out) == (2, Path("x/y"))


def test_a_new_name_drops_the_options_of_the_old_one(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("linear", "{name: vpt-deep, num_tokens: 4}"))
    assert config.read(path, ["method.name=linear"]).method == {"name": "linear"}
    assert config.read(path, ["method=linear"]).method == {"name": "linear"}
    both = config.read(path, ["method=[vpt-deep, {name: lora, rank: 4}]"]).method
    assert both == {"name": "vpt-deep+lora", "lora": {"rank": 4}}
    assert config.read(path, ["method.name=vpt-deep"]).method == {"name": "vpt-deep", "num_tokens": 4}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("datasets=digits", [{"name": "digits"}]),
        ("datasets=[digits]", [{"name": "digits"}]),
        ("datasets=[digits, {name: folder, path: x}]", [{"name": "digits"}, {"name": "folder", "path": "x"}]),
        ("datasets=[]", []),
        ("targets=[digits, imagenetv2]", [{"name": "digits"}, {"name": "imagenetv2"}]),
        ("targets=[{name: folder, path: x}]", [{"name": "folder", "path": "x"}]),
        ("targets={name: folder, path: x}", [{"name": "folder", "path": "x"}]),
        ("shots=4", {4: {}}),
        ("shots=[1,2]", {1: {}, 2: {}}),
        ("shots={1: {train.epochs: 5}}", {1: {"train.epochs": 5}}),
        ("seeds=[1, 2]", [1, 2]),
        ("select_seeds=[3]", [3]),
        ("select={train.lr: [0.1, 0.2]}", {"train.lr": [0.1, 0.2]}),
        ("search={train.lr: [0.1, 0.2]}", {"train.lr": [0.1, 0.2]}),
        ("compare={a: {train.lr: 0.1}}", {"a": {"train.lr": 0.1}}),
        ("compare.a={method: [vpt-deep, lora]}", {"a": {"method": ["vpt-deep", "lora"]}}),
        ("compare.a.method=[vpt-deep, lora]", {"a": {"method": ["vpt-deep", "lora"]}}),
        ("templates=[a photo]", ["a photo"]),
        ("backbone={name: vpt/vit-nano, image_size: 32}", {"name": "vpt/vit-nano", "image_size": 32}),
        ("method=[vpt-deep, lora]", {"name": "vpt-deep+lora"}),
        ("data={name: folder, path: x}", {"name": "folder", "path": "x"}),
        ("train={epochs: 2}", {"epochs": 2}),
        ("task={loss: sigmoid}", {"loss": "sigmoid"}),
    ],
)
def test_what_is_written_as_a_list_or_a_mapping_is_one(said: str, found: Any, tmp_path: Path) -> None:
    read = config.read(write(tmp_path, MINIMAL), [said])
    assert config.plain(read)[re.split(r"[.=]", said)[0]] == found


def test_every_key_that_holds_a_list_or_a_mapping_is_among_them() -> None:
    assert set(config.Config.model_fields) - set(config.COLLECTIONS) == {
        "head", "head_init", "templates", "learn_scale", "text_chunk", "seed", "start", "out"
    }  # fmt: skip


@pytest.mark.parametrize("key", config.COLLECTIONS)
def test_a_list_without_its_end_is_no_word(key: str, tmp_path: Path) -> None:
    with pytest.raises(VptError, match=rf"{key}=\[a is no valid YAML"):
        config.read(write(tmp_path, MINIMAL), [f"{key}=[a"])


def test_the_word_of_an_option_is_left_to_its_type(tmp_path: Path) -> None:
    read = config.read(write(tmp_path, MINIMAL), ["data=folder", "data.path=[mine]", "out=[x]"])
    assert (read.data["path"], read.out) == ("[mine]", Path("[x]"))


def written(text: str) -> Iterator[str]:
    """The lists and mappings that a page, or a comment of a config, gives for the command line."""
    text = re.sub(r"\n#? *", " ", text)
    for found in re.finditer(r"(?<![\w.])([a-z_]+)(?:\.[\w-]+)*=(?=[\[{])", text):
        depth, end = 1, found.end() + 1
        while depth:
            depth += (text[end] in "[{") - (text[end] in "]}")
            end += 1
        said = text[found.start() : end]
        # GRID and … stand for what the reader puts there.
        if found[1] in config.Config.model_fields and "GRID" not in said and "…" not in said:
            yield said


PAGES = [path for ending in ("docs/**/*.md", "configs/**/*.yaml", "data/*.md") for path in ROOT.glob(ending)]


@pytest.mark.parametrize("said", sorted({said for path in PAGES for said in written(path.read_text(encoding="utf-8"))}))
def test_what_pages_and_configs_write_for_the_command_line_is_read(said: str, tmp_path: Path) -> None:
    read = config.read(write(tmp_path, MINIMAL), [said])
    assert not [each for each in (read.method, *read.datasets, *read.targets) if each["name"].startswith(("[", "{"))]


def test_options_get_the_types_of_what_they_feed(tmp_path: Path) -> None:
    checked = build.check(config.read(write(tmp_path, MINIMAL), ["train.lr=1e-3", "data.val_fraction=0.2"]))
    assert checked.train["lr"] == 0.001
    assert checked.data["val_fraction"] == 0.2


@pytest.mark.parametrize(
    ("text", "overrides", "sentence"),
    [
        (MINIMAL + "optimiser: sgd", [], "'optimiser' in"),
        (MINIMAL + "trian: {}", [], "is no key of a config: did you mean 'train'?"),
        (MINIMAL + "seed: one", [], "seed='one' will not do: input should be a valid integer"),
        ("method: linear\ndata: digits", [], "backbone is missing"),
        (MINIMAL.replace("linear", "{num_tokens: 3}"), [], "method={'num_tokens': 3} will not do"),
        (MINIMAL, ["train.epoch=3"], "train.epoch is no option of train: did you mean 'epochs'?"),
        (MINIMAL, ["train.epochs=many"], "train.epochs='many' will not do"),
        (MINIMAL, ["train.run_dir=x"], "train.run_dir is no option of train"),
        (MINIMAL, ["method.k=3"], "method.k is no option of linear: there are none."),
        (MINIMAL, ["method=liner"], "there is no method 'liner': did you mean 'linear'?"),
        (MINIMAL, ["data=digts"], "there is no data set 'digts': did you mean 'digits'?"),
        (MINIMAL, ["data.shot=3"], "data.shot is no option of data: did you mean 'shots'?"),
        (MINIMAL, ["data.broken=ignore"], "data.broken='ignore' will not do: input should be 'stop' or 'skip'"),
        (MINIMAL, ["data.cache=disc"], "data.cache='disc' will not do: input should be 'none', 'memory' or 'disk'"),
        (MINIMAL, ["backbone.pretrained=maybe"], "backbone.pretrained='maybe' will not do"),
        (MINIMAL, ["backbone=vit"], "backbone 'vit' names no library"),
        (MINIMAL, ["train.epochs"], "'train.epochs' is no assignment: write key.path=value"),
        (MINIMAL, ["seed.x=3"], "seed.x=3 cannot be set: seed is 0, which has no parts"),
        ("- a\n- b", [], "must hold a mapping"),
        ("a: [", [], "is no valid YAML"),
    ],
)
def test_what_will_not_do_is_named(text: str, overrides: list[str], sentence: str, tmp_path: Path) -> None:
    if "seed.x=3" in overrides:
        text += "seed: 0\n"
    with pytest.raises(VptError) as error:
        build.check(config.read(write(tmp_path, text), overrides))
    assert sentence in str(error.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(VptError, match=r"there is no config 'none.yaml'"):
        config.read("none.yaml")


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda p: p.stem)
def test_every_config_that_is_shipped_is_valid_and_tells_its_command(path: Path) -> None:
    read = config.read(path)
    rows = read.compare or {"": {}}
    for changes in rows.values():
        values = config.plain(read) | {"compare": {}}
        for key, value in changes.items():
            values = config.assign(values, key, value)
        build.check(config.parse(values))
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(tuple(f"# vpt {command} configs/" for command in COMMANDS))
    assert str(path.name) in first
