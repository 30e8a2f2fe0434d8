"""What `python -m cloob_jax.prepare` does, a room for each of its commands."""
