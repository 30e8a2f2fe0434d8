"""The two encoders: CLIP's residual networks, vision and text transformers."""

from cloob_jax.models.dual_encoder import SIZES, DualEncoder, Size, build

__all__ = ["SIZES", "DualEncoder", "Size", "build"]
