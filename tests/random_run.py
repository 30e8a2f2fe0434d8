"""A run directory of random weights, without the training."""

import json

import jax
import numpy as np

from cloob_jax import architecture, models, stored_weights


def write(folder, **config):
    """Writes it, with an average unlike the parameters, which it returns."""
    shapes = architecture.abstract_variables(models.build("ViT-tiny"))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / 10).astype(np.float32),
        shapes["params"],
    )
    item = {
        "params": {
            "model": jax.tree.map(np.zeros_like, params),
            "objective": {"log_inv_tau": np.float32(0)},
        },
        "batch_stats": {},
        "ema": {"model": params, "objective": {"log_inv_tau": np.float32(np.log(50))}},
    }
    config = {
        "model": {"name": "ViT-tiny", "dtype": "bfloat16"},
        "data": {"image_size": None},
        "objective": {"name": "clip"},
    } | config
    stored_weights.save(folder / "checkpoints", item, config)
    (folder / "config.json").write_text(json.dumps(config))
    return params
