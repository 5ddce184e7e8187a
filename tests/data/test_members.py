"""The splits of a run, kept by name."""

from pathlib import Path
from typing import Any

import pytest

import vpt
from tests.data.replicas import WHOLE, folder_of, picture, sizes
from vpt import VptError
from vpt.data import load_again, load_whole
from vpt.data.aligned import aligned
from vpt.data.joined import everything
from vpt.data.members import Members, members

OPTIONS: list[dict[str, Any]] = [{}, {"shots": 2, "seed": 1}, {"classes_subset": "new"}]


def kept_with_a_run(path: Path, **options: Any) -> tuple[Members, dict[str, Any]]:
    """What a run directory keeps, as it is read back, and the facts of the data."""
    data = vpt.data.load("folder", path=path, **options)
    return Members.model_validate_json(members(data).model_dump_json()), data.facts()


@pytest.mark.parametrize("options", OPTIONS)
def test_a_run_keeps_its_splits_when_a_folder_grows(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, facts = kept_with_a_run(folder_of(tmp_path, {"ant": 12, "bee": 12, "eel": 12}), **options)
    assert load_again("folder", kept, path=tmp_path, **options).facts() == facts
    picture(tmp_path / "ant" / "000.png", 50)
    picture(tmp_path / "cow" / "000.png", 51)
    with pytest.raises(VptError, match=r"has 2 images that the run did not have.* say data.new=skip"):
        load_again("folder", kept, path=tmp_path, **options)
    assert load_again("folder", kept, path=tmp_path, new="skip", **options).facts() == facts
    assert "2 images that the run did not have" in capsys.readouterr().err


def test_a_run_finds_its_images_where_a_folder_was_moved(tmp_path: Path) -> None:
    kept, facts = kept_with_a_run(folder_of(tmp_path / "here", {"ant": 8, "bee": 8}))
    (tmp_path / "here").rename(tmp_path / "there")
    assert load_again("folder", kept, path=tmp_path / "there").facts() | {"name": ""} == facts | {"name": ""}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: (p / "ant" / "00.png").unlink(), r"1 images of the run are no longer in .*: ant/00.png; put them"),
        (lambda p: (p / "ant").rename(p / "cow"), r"8 images of the run are no longer in"),
    ],
)
def test_images_of_a_run_that_are_gone_are_named(change: Any, sentence: str, tmp_path: Path) -> None:
    kept, _ = kept_with_a_run(folder_of(tmp_path, {"ant": 8, "bee": 8}))
    change(tmp_path)
    with pytest.raises(VptError, match=sentence):
        load_again("folder", kept, path=tmp_path, new="skip")


def test_labels_that_have_changed_are_told(tmp_path: Path) -> None:
    folder_of(tmp_path, {"x": 8})
    rows = [f"x/{i:02d}.png,{'ab'[i % 2]}\n" for i in range(8)]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows))
    kept = members(vpt.data.load("table", path=tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(rows[:6]) + "x/06.png,b\nx/07.png,a\n")
    with pytest.raises(VptError, match=r"labels of .*t.csv's \w+ images are no longer those of the run: train anew"):
        load_again("table", kept, path=tmp_path / "t.csv")


def test_domains_keep_their_groups(tmp_path: Path) -> None:
    for domain in ("photo", "sketch"):
        folder_of(tmp_path / domain, {"ant": 6, "bee": 6})
    data = vpt.data.load("domains", path=tmp_path, test_domains="sketch")
    again = load_again("domains", members(data), path=tmp_path, test_domains="sketch")
    assert {name: list(of) for name, of in again.groups.items()} == {"sketch": list(range(12))}


def test_all_of_a_folder_is_every_image_once(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        folder_of(tmp_path / split, {"ant": count, "bee": count})
    whole = load_whole("folder", path=tmp_path, shots=1, val_fraction=0.5)
    assert sizes(whole) == {"train": 10, "val": 4, "test": 6}
    assert len(everything(whole)) == 20
    assert everything(whole).classes == ("ant", "bee")


def test_labels_go_by_the_names_of_classes(tmp_path: Path) -> None:
    samples = vpt.data.load("folder", path=folder_of(tmp_path, {"sea_horse": 2, "cow": 1}), **WHOLE).train
    assert samples.labels == [0, 1, 1]
    assert aligned(samples, ("ant", "sea horse", "cow")).labels == [2, 1, 1]
    assert aligned(samples, ("0", "1")) is samples
    with pytest.raises(VptError, match="the data has the class 'cow' and the model does not know it, but ant, sea"):
        aligned(samples, ("ant", "sea horse"))
    with pytest.raises(VptError, match="the data has the label 1, and the model 1 classes, which are counted from 0"):
        aligned(samples.named(()), ("ant",))
