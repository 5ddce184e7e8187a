"""Signatures and names as source files tell them: a mistake is found before torch, which they need, is imported."""

from __future__ import annotations

import ast
import builtins
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What a type may be written with where it stands.
KNOWN = vars(builtins) | vars(typing) | {"Path": Path, "Callable": Callable, "Mapping": Mapping, "Sequence": Sequence}

Fields = dict[str, tuple[Any, Any]]


def function_fields(module: str, function: str) -> Fields:
    """The keyword-only parameters of a function, as `vpt.options.options_of` gives them.

    A type that is no plain one, such as a tensor's or a class of this package, is Any: it is checked where it is used.
    """
    found = next(node for node in _tree(module).body if isinstance(node, ast.FunctionDef) and node.name == function)
    return _fields(module, found)


def class_fields(package: str, name: str) -> Fields | None:
    """Likewise those of the constructor of the class called `name` in a package; None where no file tells them."""
    for module in _modules(package):
        classes = {node.name: node for node in _tree(module).body if isinstance(node, ast.ClassDef)}
        for node in classes.values():
            if _called(node) == name:
                return _constructor(module, node, classes)
    return None


def names_in_package(package: str) -> list[str]:
    """What classes in the files of a package are called by their `name`."""
    classes = (node for module in _modules(package) for node in _tree(module).body if isinstance(node, ast.ClassDef))
    return [name for name in map(_called, classes) if name]


def _called(node: ast.ClassDef) -> str | None:
    """What a class says that it is called."""
    for part in node.body:
        if isinstance(part, ast.Assign | ast.AnnAssign) and isinstance(part.value, ast.Constant):
            target = part.targets[0] if isinstance(part, ast.Assign) else part.target
            if ast.unparse(target) == "name":
                return str(part.value.value)
    return None


def _constructor(module: str, node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> Fields | None:
    """The parameters of a class's constructor, or of the one that it has from a class of the same file."""
    made = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if made is not None:
        return None if made.args.kwarg else _fields(module, made)
    above = next((classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes), None)
    return _constructor(module, above, classes) if above else None


def _fields(module: str, function: ast.FunctionDef) -> Fields:
    return {each.arg: (_type(module, each.annotation), None) for each in function.args.kwonlyargs}


def _type(module: str, written: ast.expr | None) -> Any:
    """The type that an annotation means, or Any."""
    if written is None:
        return Any
    names = {node.id for node in ast.walk(written) if isinstance(node, ast.Name)} - KNOWN.keys()
    meant = {name: _alias(module, name) for name in names}
    if Any in meant.values():
        return Any
    # The text is this package's own.
    return eval(ast.unparse(written), {**KNOWN, **meant})


@cache
def _alias(module: str, name: str) -> Any:
    """The type that a name of a module stands for, which may come from another module of the package; or Any."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and name in [each.asname or each.name for each in node.names]:
            same = node.module is not None and node.module.split(".")[0] == module.split(".")[0]
            return _alias(str(node.module), name) if same else Any
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return _type(module, node.value)
    return Any


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _file(module: str) -> Path:
    """Where a module lies; the packages on the way to it are not imported."""
    top, *inside = module.split(".")
    place = _folder(top).joinpath(*inside)
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _modules(package: str) -> list[str]:
    top, *inside = package.split(".")
    return [f"{package}.{file.stem}" for file in sorted(_folder(top).joinpath(*inside).glob("*.py"))]


def _folder(top: str) -> Path:
    spec = find_spec(top)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])
