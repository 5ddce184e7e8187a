"""What a word means is what the type of its option makes of it, in a file and on the command line alike."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vpt import VptError, build, config
from vpt.options import checked
from vpt.values import read_yaml, word

MINIMAL = "backbone: vpt/vit-nano\nmethod: linear\ndata: {name: folder, path: photos}\n"
WORDS = ["#1", "photos #2", "a: b", "{oops", "[a] b", "@x", "%x", '"photos', "'q'", "007", "1e-3", "no", "yes", "null"]
WORDS += [
    "~x",
    "2024-05-01",
    "1:30",
    "é ü 写真",
    "C:\\Users\\me",
    "true",
    "5",
    "0.10",
    "-",
    "*a",
    "&a",
    "!x",
    "a=b",
    "",
]


def bake(
    *,
    path: Path = Path(),
    title: str | None = None,
    minutes: int = 10,
    heat: float | None = None,
    grill: Literal["on", "off"] = "off",
    fan: bool = False,
    size: tuple[int, int] | None = None,
    names: str | list[str] = "",
    extra: Any = None,
    **more: Any,
) -> None:
    raise AssertionError("checking options must not call the function")


def said(**texts: str) -> dict[str, Any]:
    return checked(bake, {key: word(text) for key, text in texts.items()}, "oven")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "experiment.yaml").write_text(MINIMAL)
    return tmp_path / "experiment.yaml"


@pytest.mark.parametrize("text", WORDS)
def test_a_path_is_what_was_typed(text: str, file: Path) -> None:
    read = build.check(config.read(file, [f"data.path={text}"]))
    assert str(read.data["path"]) == str(Path(text))


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_a_text_is_what_was_typed(text: str) -> None:
    title = said(title=text)["title"]
    assert title == text or (title is None and text in ("", "null"))


@pytest.mark.parametrize(
    ("option", "text", "meant"),
    [
        ("minutes", "30", 30),
        ("heat", "1e-3", 0.001),
        ("heat", ".5", 0.5),
        ("heat", "null", None),
        ("grill", "on", "on"),
        ("fan", "on", True),
        ("fan", "true", True),
        ("fan", "no", False),
        ("size", "[3, 4]", (3, 4)),
        ("names", "[a, 'b c', 7]", ["a", "b c", "7"]),
        ("names", "[a] and b", "[a] and b"),
        ("names", "a # b", "a # b"),
        ("extra", "[1, no, 007]", [1, False, "007"]),
        ("unknown", "1e-3", 0.001),
        ("unknown", "null", None),
    ],
)
def test_the_type_says_what_a_word_means(option: str, text: str, meant: object) -> None:
    found = said(**{option: text})[option]
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("minutes", True, "oven.minutes=True will not do: a boolean is no number."),
        ("minutes", word("yes"), "oven.minutes='yes' will not do: a boolean is no number."),
        ("heat", float("nan"), "oven.heat=nan will not do: input should be a finite number."),
        ("heat", word("-.inf"), "oven.heat='-.inf' will not do"),
        ("fan", 1, "oven.fan=1 will not do: input should be true or false."),
        ("size", [1], "oven.size=[1] will not do"),
        ("size", [1, True], "oven.size=True will not do: a boolean is no number."),
        ("title", "a\0b", "cannot hold a null character"),
        ("title", "x" * 10_000 + "\0", "xxx… will not do"),
    ],
)
def test_what_is_not_meant_is_refused(option: str, value: object, sentence: str) -> None:
    with pytest.raises(VptError) as error:
        checked(bake, {option: value}, "oven")
    assert sentence in str(error.value)
    assert len(str(error.value)) < 400


def test_a_file_means_the_same_as_the_command_line(file: Path) -> None:
    file.write_text(MINIMAL.replace("photos", "2024-05-01") + "train: {lr: 1e-3}\nseeds: [1, 2]\nhead: null\n")
    read = build.check(config.read(file))
    assert (read.data["path"], read.train["lr"]) == (Path("2024-05-01"), 0.001)
    assert (read.seeds, read.head) == ([1, 2], None)


def test_what_was_read_can_be_written_and_read_again(file: Path) -> None:
    file.write_text(MINIMAL.replace("photos", "no") + "compare: {no: {train.lr: 1e-3, data.path: 007}}\n")
    read = config.read(file)
    file.write_text(yaml.safe_dump(config.plain(read)))
    assert config.read(file) == read
    assert config.plain(build.check(config.read(file)))["data"]["path"] == "no"


def test_a_home_folder_is_where_out_says(file: Path) -> None:
    assert config.read(file, ["out=~/x"]).out == Path.home() / "x"
    assert config.read(file, ["out=~nobody-of-this-name/x"]).out == Path("~nobody-of-this-name/x")


def test_rows_and_grids_are_set_by_their_own_keys(file: Path) -> None:
    said = ["compare.a.train.lr=0.1", "compare.b={method: full}", "select.train.lr=[0.1, 1e-2]", "train={epochs: 2}"]
    read = config.read(file, said)
    assert read.compare == {"a": {"train.lr": 0.1}, "b": {"method": "full"}}
    assert (read.select, read.train) == ({"train.lr": [0.1, 0.01]}, {"epochs": 2})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: 1\nseed: 2", "'seed' is there twice"),
        ("a: &a [*a]", "is nested without end"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
        ), "is nested without end"),
        ("[" * 5000, "is no valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "is no valid YAML"),
        ("? [a]\n: b", "is no valid YAML"),
    ],
)  # fmt: skip
def test_what_is_no_config_is_told(text: str, sentence: str) -> None:
    with pytest.raises(VptError, match=sentence):
        read_yaml(text, "experiment.yaml")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    for name, content in (("a.yaml", b"\xff\xfe\x00"), ("b.yaml", b"a" * 1_000_001)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VptError, match=r"cannot be read|is larger than"):
            config.read(tmp_path / name)
    with pytest.raises(VptError, match="cannot be read"):
        config.read(tmp_path)
