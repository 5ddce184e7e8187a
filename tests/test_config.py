"""Experiments as YAML: what is read, what the command line changes, what is refused."""

from pathlib import Path

import pytest

from vpt import VptError, build, config

COMMANDS = ("train", "sweep", "compare", "pretrain", "few-shot", "base-to-new", "transfer")

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


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("configs/**/*.yaml")), ids=lambda p: p.stem)
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
