"""The linear stages of a block, where methods put what they learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from vpt.towers.scaling import added, scaled

Function = Callable[[Tensor], Tensor]

# Whose layer scales are known.
LIBRARIES = ("timm.", "open_clip.", "transformers.")


def same(x: Tensor) -> Tensor:
    """`x` itself."""
    return x


# Told apart by identity: compilers hash what is called, and that before it has its attributes.
@dataclass(frozen=True, eq=False)
class Out:
    """What attention gives, (B, N, heads · d), to what a block adds to its tokens, (B, N, D).

    Attributes:
        project: the output projection, linear.
        end: what follows it: dropout, drop path, norms.
        scale: of each channel, (D,), of what `end` gives, where a layer scale comes last.
        before: what attention gives and the normed tokens to what is projected, where anything stands between.
    """

    project: Function
    end: Function = same
    scale: Tensor | None = None
    before: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, o: Tensor, y: Tensor) -> Tensor:
        """(B, N, heads · d) and normed tokens to (B, N, D)."""
        return scaled(self.scale, self.unscaled(o, y))

    def unscaled(self, o: Tensor, y: Tensor) -> Tensor:
        """What is then multiplied by `scale`."""
        return self.end(self.project(self.given(o, y)))

    def ending(self, last: Function) -> Out:
        """The same with `last` behind all else."""
        return replace(self, end=_behind(self, last), scale=None)

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
        end: what follows it: dropout, drop path, norms.
        scale: of each channel, (D,), of what `end` gives, where a layer scale comes last.
    """

    norm: Function
    up: Function
    act: Function
    down: Function
    end: Function = same
    scale: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return scaled(self.scale, self.unscaled(x))

    def unscaled(self, x: Tensor) -> Tensor:
        """What is then multiplied by `scale`."""
        return self.end(self.down(self.act(self.up(self.norm(x)))))

    def ending(self, last: Function) -> Mlp:
        """The same with `last` behind all else."""
        return replace(self, end=_behind(self, last), scale=None)


@dataclass(frozen=True, eq=False)
class Joint:
    """Attention and MLP of a block that have a norm and layers in common, for what is done by both at once.

    Attributes:
        inward: normed tokens, (B, N, D), to queries, keys and values, (B, N, heads, d) each, and to what the MLP makes
            of them before its activation, (B, N, H).
        up: the latter alone.
        outward: what attention gives, (B, N, heads · d), and what `up` gave to what is added to the tokens, (B, N, D).
        scale: of each channel, (D,), of that, where a layer scale comes last.
        apart: what gives queries, keys and values, what attention gives to what it adds, and tokens to what the MLP
            adds, each alone, for blocks in which others take their place.
    """

    inward: Callable[[Tensor], tuple[Sequence[Tensor], Tensor]]
    up: Function
    outward: Callable[[Tensor, Tensor], Tensor]
    scale: Tensor | None
    apart: tuple[Any, Any, Any]


def plus(x: Tensor, stage: Callable[..., Tensor], *given: Tensor) -> Tensor:
    """`x` with what a stage makes of what it is given: in one operation with its scale, where it has one."""
    # A tuple: torch 2.7's compiler knows no union of types.
    if isinstance(stage, (Out, Mlp)):
        return added(x, stage.unscaled(*given), stage.scale)
    return x + stage(*given)


def _behind(stage: Out | Mlp, last: Function) -> Function:
    end, scale = stage.end, stage.scale
    return lambda x: last(scaled(scale, end(x)))


def is_hooked(module: nn.Module) -> bool:
    """Whether a module has forward hooks, which are passed by where its parts are called by themselves."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def ending(*steps: Any) -> tuple[Function, Tensor | None]:
    """What follows a linear stage, apart from the scale that comes last, and that scale, None where none comes last.

    Args:
        steps: one after another: modules, factors, or None for nothing.
    """
    left = [step for step in steps if not (step is None or _is_nothing(step))]
    scale = _scale_of(left[-1]) if left else None
    return one_after_another([_step(each) for each in (left if scale is None else left[:-1])]), scale


def _is_nothing(step: Any) -> bool:
    """Whether a step leaves what it is given as it is; transformers holds 1.0 where a layer has no scale."""
    if not isinstance(step, nn.Module):
        return isinstance(step, float) and step == 1
    # Dropout, and drop path, which each library has for itself.
    share = getattr(step, "p", getattr(step, "drop_prob", None))
    off = isinstance(step, nn.Identity) or (isinstance(share, float) and not (share and step.training))
    return off and not is_hooked(step)


def _scale_of(step: Any) -> Tensor | None:
    """What each channel is multiplied by in a step that does nothing else."""
    if isinstance(step, Tensor):
        return step
    own = type(step).__name__.endswith("LayerScale") and type(step).__module__.startswith(LIBRARIES)
    return next(step.parameters()) if own and not is_hooked(step) else None


def _step(step: Any) -> Function:
    return step if callable(step) else lambda x: step * x


def mlp_of(mlp: nn.Module, norm: Function, end: Function = same, scale: Tensor | None = None) -> Function:
    """An MLP taken apart, where it is one of two linear layers; otherwise x to what it adds, as a whole.

    Args:
        mlp: torch's `Sequential` of a linear layer, an activation, dropout or none, and a linear layer, dropout or
            none; or a module of `fc1`, `activation_fn` and `fc2`, as transformers' are.
        norm: the norm before it.
        end: what follows it.
        scale: of each channel, (D,), of what `end` gives.
    """
    layers = list(mlp) if isinstance(mlp, nn.Sequential) and not is_hooked(mlp) else []
    linear = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    if len(linear) == 2 and linear[0] == 0:
        last = linear[1]
        act, rest = one_after_another(layers[1:last]), one_after_another([*layers[last + 1 :], end])
        return Mlp(norm, layers[0], act, layers[last], rest, scale)
    parts: list[Any] = [getattr(mlp, name, None) for name in ("fc1", "activation_fn", "fc2")]
    if type(mlp).__module__.startswith("transformers.") and None not in parts and not is_hooked(mlp):
        return Mlp(norm, parts[0], parts[1], parts[2], end, scale)
    return lambda x: scaled(scale, end(mlp(norm(x))))


def one_after_another(functions: Sequence[Function]) -> Function:
    """What functions make of tokens, the first of them first."""
    if len(functions) < 2:
        return functions[0] if functions else same

    def run(x: Tensor) -> Tensor:
        for function in functions:
            x = function(x)
        return x

    return run
