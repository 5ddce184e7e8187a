"""Where a model runs."""

from __future__ import annotations

import os

import torch

from vpt.errors import VptError


def chosen_device(name: str | None = None) -> torch.device:
    """The device of this name; by default a GPU where there is one.

    Raises:
        VptError: there is no such device here.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if name is None:
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise VptError(f"there is no device {name!r}: say cpu, or cuda, cuda:1 or mps where one is there.") from error
    count = torch.accelerator.device_count() if found and found.type == device.type else int(device.type == "cpu")
    if (device.index or 0) >= count:
        here = f"cpu and {found.type}" if found else "cpu alone"
        raise VptError(f"there is no device {name!r} here: there is {here}.")
    return device


def train_on(name: str | None) -> None:
    """Have training and measuring, whose devices Accelerate sets up, take place on this device.

    Raises:
        VptError: there is no such device here.
    """
    if name is not None:
        device = chosen_device(name)
        os.environ["ACCELERATE_USE_CPU"] = str(device.type == "cpu").lower()
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
