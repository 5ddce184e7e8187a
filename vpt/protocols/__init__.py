"""How prompts of image-text models are judged: few shots, base to new classes, and transfer to other data.

Each protocol is a table over data sets, methods and seeds, and goes on where it was interrupted, as `vpt compare` does.
"""

from vpt.protocols.base_to_new import base_to_new
from vpt.protocols.few_shot import few_shot
from vpt.protocols.transfer import transfer

__all__ = ["base_to_new", "few_shot", "transfer"]
