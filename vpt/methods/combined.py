"""Several methods at once, each with the places that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar

from torch import nn

from vpt.errors import VptError, did_you_mean
from vpt.methods.base import Method
from vpt.methods.parts import Encoder, TextEncoder
from vpt.options import checked, options_of

# Between the names of the methods in that of the combination.
AND = "+"


class Combined(Method):
    """Methods whose parts take different places, learned together.

    Options are given to the one method that has them, or by its name: `num_tokens=5`, `lora={"rank": 4}`.

    Attributes:
        kinds: the methods' classes.

    Raises:
        VptError: two of them take the same place, or the classifiers that they can be used with are not the same.
    """

    kinds: ClassVar[tuple[type[Method], ...]] = ()

    def __init__(self, tower: Encoder, text: TextEncoder | None = None, **options: Any) -> None:
        nn.Module.__init__(self)
        given = {kind.name: dict(options.pop(kind.name, {})) for kind in self.kinds}
        for option, value in options.items():
            given[_owner(self.kinds, option).name][option] = value
        made: list[Method] = []
        for kind in self.kinds:
            make: Any = kind
            made.append(make(tower, text, **checked(kind, given[kind.name], f"method.{kind.name}")))
            self.add_module(kind.name, made[-1])
        for first, second in combinations(made, 2):
            _check_places(first, second)
        self._put_together(tuple(part for method in made for part in method.parts))
        self.template = _one_template(made)
        self.teacher = next((method.teacher for method in made if method.teacher is not None), None)

    @classmethod
    def option_fields(cls) -> dict[str, Any]:
        """As `vpt.options.options_of` gives them: those that one method alone has, and each method's by name."""
        fields = [options_of(kind) for kind in cls.kinds]
        names = [name for each in fields for name in each]
        # One that several have is let through, for the sentence that says so.
        found = {
            name: field if names.count(name) == 1 else (Any, None) for each in fields for name, field in each.items()
        }
        return found | {kind.name: (dict[str, Any], {}) for kind in cls.kinds}

    @classmethod
    def kept(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Likewise, of each method's own too."""
        own = {kind.name: kind.kept(options[kind.name]) for kind in cls.kinds if kind.name in options}
        return super().kept(options) | own


def combined(kinds: Sequence[type[Method]]) -> type[Method]:
    """The class of a combination of methods.

    Raises:
        VptError: one is there twice, or they are used with different classifiers.
    """
    names = [kind.name for kind in kinds]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise VptError(f"method={names}: {twice} is there twice: name each method once.")
    heads = tuple(head for head in ("linear", "text") if all(head in kind.heads for kind in kinds))
    if not heads:
        told = "; ".join(f"{kind.name} takes {' or '.join(kind.heads)}" for kind in kinds)
        raise VptError(f"method={names} cannot be combined, as no classifier serves all: {told}.")
    wanted = {kind.head for kind in kinds}
    return type(
        "Combined",
        (Combined,),
        {
            "name": AND.join(names),
            "source": "; ".join(kind.source for kind in kinds),
            "kinds": tuple(kinds),
            "heads": heads,
            "head": "text" if "text" in wanted and "text" in heads else heads[0],
            "renamed": (),
            "for_training": tuple(option for kind in kinds for option in kind.for_training),
            "transductive": any(kind.transductive for kind in kinds),
            "__doc__": f"{', '.join(names)}, learned together.",
        },
    )


def separate(name: str) -> list[str]:
    """The names in that of a combination; one that ends in + itself keeps it."""
    found: list[str] = []
    for each in name.split(AND):
        if each or not found:
            found.append(each)
        else:
            found[-1] += AND
    return found


def _owner(kinds: Sequence[type[Method]], option: str) -> type[Method]:
    owners = [kind for kind in kinds if option in options_of(kind)]
    if not owners:
        known = [name for kind in kinds for name in options_of(kind)]
        raise VptError(f"method.{option} is no option of any: {did_you_mean(option, known)}")
    if len(owners) > 1:
        names = ", ".join(kind.name for kind in owners)
        raise VptError(
            f"method.{option}: {names} have it all: give it by name, as {owners[0].name}={{{option!r}: …}} or "
            f"method.{owners[0].name}.{option}=… on the command line."
        )
    return owners[0]


def _check_places(first: Method, second: Method) -> None:
    taken = [frozenset[str]().union(*(part.claims for part in method.parts)) for method in (first, second)]
    both = sorted(taken[0] & taken[1])
    if both:
        raise VptError(
            f"{first.name} and {second.name} cannot be combined: both take the {both[0]}. Name one of the two."
        )


def _one_template(methods: Sequence[Method]) -> str | None:
    """What class names are put in: the words around learned context go before those of others."""
    learned = [method.template for method in methods if method.num_context and method.template is not None]
    others = [method.template for method in methods if method.template is not None]
    return next(iter(learned or others), None)


def names_in(method: Any) -> list[tuple[str, Mapping[str, Any]]]:
    """Methods as they are written in a list: each a name, or a mapping of its name and its options.

    Raises:
        VptError: one is neither.
    """
    found: list[tuple[str, Mapping[str, Any]]] = []
    for each in method:
        options = {"name": each} if isinstance(each, str) else each
        if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
            raise VptError(
                f"method={method!r}: each of a list is a name, or {{name: …}} with options: {each!r} is not."
            )
        found.append((options["name"], {key: value for key, value in options.items() if key != "name"}))
    if not found:
        raise VptError("method=[] names none: give one method or more.")
    return found
