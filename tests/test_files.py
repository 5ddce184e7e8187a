"""A file is there whole or as it was before, and one that is damaged is told from one that is not."""

import os
from pathlib import Path

import pytest

from vpt import VptError, digest, files
from vpt.paths import model_folder


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "deep" / "figures.json"
    files.write(place, "first é")
    assert place.read_text(encoding="utf-8") == "first é"

    def dies(*_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            files.write(place, "other")
    assert place.read_text(encoding="utf-8") == "first é"
    assert all(files.is_temporary(entry.name) for entry in place.parent.iterdir() if entry != place)
    files.write(place, b"second")
    assert [entry.name for entry in place.parent.iterdir()] == ["figures.json"]


def test_it_is_flushed_to_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("fsync") or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("replace") or replace(*names))
    files.write(tmp_path / "x", "content")
    assert done == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("file/below", "file cannot be written (it is a file): name a place below a folder"),
        ("x" * 300 + "/y", "cannot be written (file name too long): give a shorter name"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(place: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VptError) as error:
        files.write(tmp_path / place, "content")
    assert sentence in str(error.value)


def test_every_changed_byte_of_a_sealed_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "sealed"
    with path.open("wb") as file:
        sealing = digest.Sealing(file)
        sealing.write(b"some ")
        sealing.write(memoryview(b"content"))
        sealing.seal()
    assert digest.is_sealed(path)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert not digest.is_sealed(path)
    for cut in (b"", content[:5], content[:-1], content + b"x"):
        path.write_bytes(cut)
        assert not digest.is_sealed(path)


def test_a_digest_is_the_same_of_a_file_and_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    assert digest.of_file(tmp_path / "x") == digest.of_bytes(b"content")


def test_a_run_stands_for_its_best_model_and_all_else_for_itself(tmp_path: Path) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "best").write_text("a file")
    assert model_folder(tmp_path / "run") == model_folder(str(tmp_path / "run")) == tmp_path / "run" / "best"
    for source in (tmp_path / "saved", tmp_path / "nowhere", "user/name@main"):
        assert model_folder(source) == source
