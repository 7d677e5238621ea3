"""Whether a pass is recorded, to be run on other windows: by `torch.jit.trace`, `torch.compile` or `torch.export`.

What a recording shows is kept: no branch may hang on numbers then, and no operator of ours be called past PyTorch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor


def is_recorded() -> bool:
    """Whether what is computed now is recorded."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def known_whole(mask: Bool[Tensor, "batch time"]) -> bool:
    """Whether no window is padded, and that may be made use of."""
    return not is_recorded() and bool(mask.all())
