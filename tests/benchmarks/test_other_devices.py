"""What is measured is all on the device that is asked for, and is not waited for but by the clock."""

from contextlib import nullcontext

import pytest

from benchmarks import image, text
from benchmarks.measure import Setting
from tests.devices import OneDevice


@pytest.mark.parametrize("part", [image, text])
def test_steps_and_passes_stay_on_their_device(part: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Setting, "autocast", lambda setting: nullcontext())
    called = 0
    for case in part.cases(Setting(device="meta", quick=True)):
        for run in case.runs.values():
            with OneDevice():
                run.call()
            called += 1
    assert called > 10
