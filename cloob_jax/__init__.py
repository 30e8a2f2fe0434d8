"""Contrastive image-text pre-training in JAX: CLOOB, CLIP and relatives."""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Later than the import: processes that only read data need none of it.
    if name == "load":
        from cloob_jax.inference import load

        return load
    raise AttributeError(f"module 'cloob_jax' has no attribute {name!r}")
