"""The bounds of a config's numbers."""

import math
from typing import Any

from ml_collections import ConfigDict

from cloob_jax.errors import UserError

# Field -> the least and the greatest value that can be meant.
_BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "batch_size": (2, math.inf),
    "accumulate_steps": (1, math.inf),
    "total_steps": (1, math.inf),
    "total_examples": (1, math.inf),
    "model.bn_groups": (1, math.inf),
    "model.context_length": (2, math.inf),
    "data.image_size": (1, math.inf),
    "data.max_bad_fraction": (0, 1),
    "data.num_workers": (0, math.inf),
    "data.num_threads": (1, math.inf),
    "optim.learning_rate": (0, math.inf),
    "optim.num_cycles": (1, math.inf),
    "optim.warmup_steps": (0, math.inf),
    "optim.weight_decay": (0, math.inf),
    "optim.b1": (0, 1),
    "optim.b2": (0, 1),
    "optim.eps": (0, math.inf),
    "optim.grad_clip_norm": (0, math.inf),
    "optim.ema_decay": (0, 1),
    "log_steps": (1, math.inf),
    "checkpoint_steps": (1, math.inf),
    "keep_checkpoints": (1, math.inf),
    "eval_steps": (1, math.inf),
}
_REQUIRED = ("model.name", "optim.learning_rate")
# Why, where the bound alone does not say it.
_REASONS = {
    "batch_size": ": a contrastive objective takes the other pairs as negatives",
    "eval_steps": ": to evaluate at the end only, give the number of steps",
    "checkpoint_steps": ": to save at the end only, give the number of steps",
}


def check(config: ConfigDict) -> None:
    """Refuses what cannot be meant, before anything is built.

    Raises:
      UserError: a number out of its bounds or a field without a value, by its name.
    """
    for field in _REQUIRED:
        if _value(config, field) is None:
            raise UserError(f"config.{field} has no value; set it in the config file")
    for field, (least, most) in _BOUNDS.items():
        value = _value(config, field)
        if value is not None and not least <= value <= most:
            limits = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise UserError(
                f"config.{field}={value}: expected {limits}{_REASONS.get(field, '')}"
            )


def _value(config: ConfigDict, field: str) -> Any:
    node, _, leaf = field.rpartition(".")
    return (config[node] if node else config)[leaf]
