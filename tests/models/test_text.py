"""The text encoder reads the end-of-text token and nothing after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cloob_jax import models

END = 49407


def test_tokens_after_the_end_change_nothing():
    text = models.build("ViT-tiny", compute=models.Compute(jnp.float32)).text
    rng = np.random.default_rng(0)
    texts = rng.integers(1, END, (4, 24), np.int32)
    ends = [1, 9, 20, 23]
    texts[range(4), ends] = END
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 10,
        jax.eval_shape(text.init, jax.random.key(0), texts),
    )
    encode = jax.jit(text.apply)
    embeds = encode(variables, texts)

    after = np.arange(24)[None] > np.array(ends)[:, None]
    np.testing.assert_array_equal(
        encode(variables, np.where(after, 7, texts).astype(np.int32)), embeds
    )
    # The token just before the end does matter, in every text.
    texts[range(4), np.array(ends) - 1] = 7
    assert np.all(np.abs(encode(variables, texts) - embeds).max(axis=1) > 1e-3)


def test_another_length_is_refused():
    text = models.build("ViT-tiny").text
    with pytest.raises(ValueError, match="31 tokens, this model takes 24"):
        jax.eval_shape(text.init, jax.random.key(0), np.zeros((1, 31), np.int32))
