"""The tensors of a TorchScript archive, such as OpenAI's files of CLIP; the code in it is neither compiled nor run."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpt.errors import VptError

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Module:
    """An object of a class that the archive defines: only its attributes are read."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}


def read_archive(path: Path) -> dict[str, Tensor]:
    """The tensors of the module in an archive, by the names that they have in its state dict.

    Raises:
        VptError: it is damaged, or something else than a module.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (data,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            with archive.open(data) as file:
                module = _Unpickler(file, archive, data.removesuffix("data.pkl") + "data/").load()
    # A pickle that is no archive's may raise anything at all.
    except Exception as error:
        raise VptError(f"{path} is no TorchScript archive that can be read: save its state dict alone.") from error
    found = dict(_tensors(module, ""))
    if not found:
        raise VptError(f"{path} is a TorchScript archive without tensors: save its state dict alone.")
    return found


class _Unpickler(pickle.Unpickler):
    """Makes containers, tensors and `Module`; any other name in a pickle is an error."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for."""
        if module.startswith("__torch__"):
            return Module
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage: ("storage", dtype, name of its file, device, number of elements)."""
        _, dtype, key, _, _ = pid
        with self.archive.open(self.folder + str(key)) as file:
            return torch.frombuffer(bytearray(file.read()), dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *rest: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _tensors(module: Any, prefix: str) -> Any:
    for name, value in module.state.items() if isinstance(module, Module) else ():
        if isinstance(value, Tensor):
            yield prefix + name, value
        else:
            yield from _tensors(value, f"{prefix}{name}.")
