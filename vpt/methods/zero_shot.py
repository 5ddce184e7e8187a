"""Zero-shot classification by prompt engineering, Radford et al., ICML 2021, https://arxiv.org/abs/2103.00020."""

from vpt.methods.base import Method


class ZeroShot(Method):
    """Learns nothing: class names in hand-written templates are the classifier (section 3.1.4).

    The templates are the data set's, one or an ensemble of them.
    """

    name = "zero-shot"
    source = "Radford et al., ICML 2021"
    head = "text"
    heads = ("text",)
