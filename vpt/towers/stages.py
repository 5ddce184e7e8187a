"""The linear stages of a block, where methods put what they learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """`x` itself."""
    return x


# Told apart by identity: compilers hash what is called, and that before it has its attributes.
@dataclass(frozen=True, eq=False)
class Out:
    """What attention gives, (B, N, heads · d), to what a block adds to its tokens, (B, N, D).

    Attributes:
        project: the output projection, linear.
        end: what follows it: dropout, layer scale, drop path.
        before: what attention gives and the normed tokens to what is projected, where anything stands between.
    """

    project: Function
    end: Function = same
    before: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, o: Tensor, y: Tensor) -> Tensor:
        """(B, N, heads · d) and normed tokens to (B, N, D)."""
        return self.end(self.project(self.given(o, y)))

    def given(self, o: Tensor, y: Tensor) -> Tensor:
        """What is projected, of (B, N, heads · d) and normed tokens."""
        return o if self.before is None else self.before(o, y)


@dataclass(frozen=True, eq=False)
class Mlp:
    """Tokens (B, N, D) to what a block's MLP of two linear layers adds to them.

    Attributes:
        norm: the norm before it.
        up: the first layer, linear, (B, N, D) to (B, N, H).
        act: what stands between the layers: the activation, and dropout.
        down: the second layer, linear, (B, N, H) to (B, N, D).
        end: what follows it: dropout, layer scale, drop path.
    """

    norm: Function
    up: Function
    act: Function
    down: Function
    end: Function = same

    def __call__(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return self.end(self.down(self.act(self.up(self.norm(x)))))


def is_hooked(module: nn.Module) -> bool:
    """Whether a module has forward hooks, which are passed by where its parts are called by themselves."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def mlp_of(mlp: nn.Module, norm: Function, end: Function = same) -> Function:
    """An MLP taken apart, where it is one of two linear layers; otherwise x to what it adds, as a whole.

    Args:
        mlp: torch's `Sequential` of a linear layer, an activation, dropout or none, and a linear layer, dropout or
            none; or a module of `fc1`, `activation_fn` and `fc2`, as transformers' are.
        norm: the norm before it.
        end: what follows it.
    """
    layers = list(mlp) if isinstance(mlp, nn.Sequential) and not is_hooked(mlp) else []
    linear = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    if len(linear) == 2 and linear[0] == 0:
        last = linear[1]
        act, rest = _one_after_another(layers[1:last]), _one_after_another([*layers[last + 1 :], end])
        return Mlp(norm, layers[0], act, layers[last], rest)
    parts: list[Any] = [getattr(mlp, name, None) for name in ("fc1", "activation_fn", "fc2")]
    if type(mlp).__module__.startswith("transformers.") and None not in parts and not is_hooked(mlp):
        return Mlp(norm, parts[0], parts[1], parts[2], end)
    return lambda x: end(mlp(norm(x)))


def _one_after_another(functions: Sequence[Function]) -> Function:
    def run(x: Tensor) -> Tensor:
        for function in functions:
            x = function(x)
        return x

    return run
