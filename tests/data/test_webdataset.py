"""Images and captions in tar shards."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vpt
from tests.data.replicas import WHOLE, refused, sizes


def shard(path: Path, samples: list[dict[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                entry = tarfile.TarInfo(f"part/{number:06d}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


def encoded(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def samples_of(greys: range) -> list[dict[str, bytes]]:
    said = {grey: json.dumps({"caption": [f"grey {grey}", "grey"]}).encode() for grey in greys}
    return [{"json": said[g], "png": encoded(g), "txt": f"grey {g}\n".encode()} for g in greys]


@pytest.mark.parametrize("pattern", ["{000..001}.tar", "*.tar", "."])
def test_tar_shards(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPT_DATA", str(tmp_path))
    shard(tmp_path / "cc" / "000.tar", samples_of(range(0, 5)))
    shard(tmp_path / "cc" / "001.tar", samples_of(range(5, 8)))
    data = vpt.data.load("webdataset", path=f"cc/{pattern}", **WHOLE)
    assert data.train.captions == [(f"grey {grey}",) for grey in range(8)]
    assert [int(np.asarray(data.train.image(i))[0, 0, 0]) for i in range(8)] == list(range(8))
    assert data.train.subset([6]).name(0).endswith("cc/001.tar/part/000001.png")


def test_tar_shards_with_captions_in_json(tmp_path: Path) -> None:
    train, test = shard(tmp_path / "a.tar", samples_of(range(9))), shard(tmp_path / "b.tar", samples_of(range(2)))
    data = vpt.data.load("webdataset", path=str(train), test=str(test), caption_key="json", val_fraction=0)
    assert sizes(data) == {"train": 9, "test": 2}
    assert data.train.captions[3] == ("grey 3", "grey")


@pytest.mark.parametrize("key", ["txt", "json"])
def test_a_byte_order_mark_is_no_part_of_a_caption(key: str, tmp_path: Path) -> None:
    marked = [
        {name: (b"\xef\xbb\xbf" if name == key else b"") + content for name, content in samples_of(range(1))[0].items()}
    ]
    data = vpt.data.load("webdataset", path=str(shard(tmp_path / "a.tar", marked)), caption_key=key, **WHOLE)
    assert data.train.captions[0][0] == "grey 0"


@pytest.mark.parametrize(
    ("sample", "options", "sentence"),
    [
        ({"png": b"", "text": b"x"}, {}, "part/000000.png has no .txt beside it, but png, text: set data.caption_key"),
        ({"png": b"", "txt": b" \n"}, {}, "1 of the 1 captions of"),
        ({"png": b"", "txt": b" \n"}, {"empty": "skip"}, "holds no images with captions"),
        ({"png": b"", "txt": b"\xff"}, {}, "000000.txt is no txt in UTF-8"),
        ({"png": b"", "json": b"{"}, {"caption_key": "json"}, "000000.json is no JSON"),
        ({"png": b"", "json": b'{"text": 1}'}, {"caption_key": "json"}, "no field 'caption', but text: set data.json"),
        (
            {"png": b"", "json": b'{"caption": {"en": "x"}}'},
            {"caption_key": "json"},
            "json has {'en': 'x'} for a caption",
        ),
        ({"png": b"nonsense", "txt": b"x"}, {}, "1 images cannot be decoded"),
        ({"cls": b"3"}, {}, "holds no images with captions"),
    ],
)
def test_a_shard_that_is_wrong(
    sample: dict[str, bytes], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = shard(tmp_path / "a.tar", [sample])
    assert sentence in refused("webdataset", path=str(path), **options)


def test_shards_that_are_not_there_or_compressed(tmp_path: Path) -> None:
    assert "names no .tar file" in refused("webdataset", path=str(tmp_path / "*.tar"))
    path = shard(tmp_path / "a.tar", samples_of(range(2)), "w:gz")
    assert "is no whole, uncompressed tar file" in refused("webdataset", path=str(path))


@pytest.mark.parametrize("pattern", ["{0..99999999999}.tar", "{0..9999}/{0..9999}.tar", "{0..9" + "9" * 5000 + "}.tar"])
def test_patterns_of_more_shards_than_there_can_be_are_refused_and_not_counted(pattern: str, tmp_path: Path) -> None:
    assert any(told in refused("webdataset", path=str(tmp_path / pattern)) for told in ("stands for", "does not exist"))


def test_what_a_shard_holds_and_is_not_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shard(tmp_path / "a.tar", [*samples_of(range(2)), {"heic": b"x", "txt": b"x"}, samples_of(range(3))[2]])
    assert sizes(vpt.data.load("webdataset", path=str(path), **WHOLE)) == {"train": 3}
    assert "1 files of" in (said := capsys.readouterr().err)
    assert "part/000002 without an image" in said


def test_a_shard_is_in_one_split(tmp_path: Path) -> None:
    for name in ("0.tar", "1.tar"):
        shard(tmp_path / name, samples_of(range(2)))
    options = {"path": str(tmp_path / "*.tar"), "val": str(tmp_path / "1.tar")}
    assert "1.tar is among the shards of train and of val: keep it in one" in refused("webdataset", **options)
