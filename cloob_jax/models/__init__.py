"""The two encoders: CLIP's residual networks, vision and text transformers."""

from cloob_jax.models.dual_encoder import (
    HEAD_WIDTH,
    NAMES,
    SIZES,
    DualEncoder,
    Size,
    build,
)
from cloob_jax.models.transformer import REMAT_POLICIES, Compute, anywhere

__all__ = [
    "HEAD_WIDTH",
    "NAMES",
    "REMAT_POLICIES",
    "SIZES",
    "Compute",
    "DualEncoder",
    "Size",
    "anywhere",
    "build",
]
