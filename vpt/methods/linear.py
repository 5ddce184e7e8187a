"""Linear probe: the head alone, on frozen features."""

from vpt.methods.base import Method


class Linear(Method):
    """Trains nothing but the head."""

    name = "linear"
    source = "linear probe"
    heads = ("linear",)
