"""What all sources of captioned images have in common."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vpt
from tests.data.replicas import files, flickr8k, refused
from vpt.data.base import Arrays
from vpt.data.pairs import FilePairs, JoinedPairs, class_captions


@pytest.mark.parametrize("mixed", [False, True])
def test_broken_images_stop_the_run_or_are_skipped(mixed: bool, tmp_path: Path) -> None:
    root = flickr8k(tmp_path)
    (root / "Images" / "1_x.jpg").write_bytes(b"nonsense")
    source: dict[str, Any] = {"name": "flickr8k", "path": str(root)}
    options = {"name": "mixed", "sources": [source | {"repeat": 2}]} if mixed else source
    assert "cannot be decoded" in refused(**options)
    data = vpt.data.load(**options, broken="skip")
    assert "1_x.jpg" not in files(data)
    assert [Path(name).name for name in data.facts()["skipped"]] == ["1_x.jpg"]


def test_the_same_pairs_have_the_same_digest_wherever_they_lie(tmp_path: Path) -> None:
    first = vpt.data.load("flickr8k", path=flickr8k(tmp_path / "a")).facts()
    second = vpt.data.load("flickr8k", path=flickr8k(tmp_path / "b")).facts()
    assert first == second
    file = tmp_path / "b" / "captions.txt"
    file.write_text(file.read_text().replace("number 0", "no. 0"))
    third = vpt.data.load("flickr8k", path=tmp_path / "b").facts()
    assert third["digests"]["train"] != first["digests"]["train"]
    assert third["digests"]["test"] == first["digests"]["test"]


@given(st.lists(st.integers(0, 8), max_size=20))
def test_a_subset_of_joined_pairs_is_the_pairs_at_its_indices(indices: list[int]) -> None:
    memory = Arrays(np.arange(4, dtype=np.uint8).repeat(12).reshape(4, 2, 2, 3), [0, 1, 0, 1], "grey")
    on_disk = FilePairs([Path(f"{i}.png") for i in range(5)], [[f"file {i}"] for i in range(5)])
    joined = JoinedPairs([class_captions(memory, ["a", "b"], ["{}"]), on_disk])
    chosen = joined.subset(indices)
    assert chosen.captions == [joined.captions[i] for i in indices]
    assert [chosen.name(i) for i in range(len(chosen))] == [joined.name(i) for i in indices]
    assert [chosen.stored(i) for i in range(len(chosen))] == [i >= 4 for i in indices]
