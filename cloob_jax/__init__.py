"""Contrastive image-text pre-training in JAX: CLOOB, CLIP and relatives."""
