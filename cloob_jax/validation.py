"""The bounds of a config's numbers, and what its short texts mean."""

import math
from fractions import Fraction
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
    "data.stall_seconds": (1, math.inf),
    "optim.learning_rate": (0, math.inf),
    "optim.num_cycles": (1, math.inf),
    "optim.warmup_steps": (0, math.inf),
    "optim.weight_decay": (0, math.inf),
    "optim.b1": (0, 1),
    "optim.b2": (0, 1),
    "optim.eps": (0, math.inf),
    "optim.grad_clip_norm": (0, math.inf),
    "optim.ema_decay": (0, 1),
    "max_bad_steps": (0, math.inf),
    "hang_seconds": (1, math.inf),
    "log_steps": (1, math.inf),
    "checkpoint_steps": (1, math.inf),
    "keep_checkpoints": (1, math.inf),
    "keep_every_steps": (1, math.inf),
    "eval_steps": (1, math.inf),
}
_MOST_SHARES = 1_000_000  # of the weights together, in whole numbers
_CHOICES = {
    "data.shuffle": ("global", "window"),
    "data.resize": ("fast", "pil", "device"),
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
      UserError: a number out of its bounds, an unknown name or a field without a
        value, by the field.
    """
    for field in _REQUIRED:
        if _value(config, field) is None:
            raise UserError(f"config.{field} has no value; set it in the config file")
    for field, choices in _CHOICES.items():
        if (value := _value(config, field)) not in choices:
            raise UserError(f"config.{field}={value}: expected {' or '.join(choices)}")
    for field, (least, most) in _BOUNDS.items():
        value = _value(config, field)
        if value is not None and not least <= value <= most:
            limits = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise UserError(
                f"config.{field}={value}: expected {limits}{_REASONS.get(field, '')}"
            )
    _check_accepted(config)
    if config.data.columns is not None:
        columns(config.data.columns)
    if config.data.weights is not None and config.data.train:
        weights(config.data.weights, len(parts(config.data.train)))


def _check_accepted(config: ConfigDict) -> None:
    for name in fields(config.accept_changed):
        try:
            _value(config, name)
        except (AttributeError, KeyError, TypeError):
            raise UserError(
                f"config.accept_changed={config.accept_changed}: there is no field "
                f"config.{name}; expected names such as batch_size,data.train"
            ) from None


def parts(train: str) -> list[str]:
    """The data sets of `config.data.train`, `a::b`.

    Raises:
      UserError: one of them is empty.
    """
    if not train:
        raise UserError(
            "config.data.train is empty; give it tars, such as /data/{00..31}.tar"
        )
    found = [part.strip() for part in train.split("::")]
    if not all(found):
        raise UserError(
            f"config.data.train={train}: part {found.index('') + 1} of {len(found)} "
            "is empty; expected A::B, a data set on each side of every ::"
        )
    return found


def columns(text: str) -> tuple[str, str]:
    """The columns of `config.data.columns`: of images and of captions.

    Raises:
      UserError: these are not two names.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise UserError(
            f"config.data.columns={text}: expected two names, IMAGE,CAPTION"
        )
    return names[0], names[1]


def fields(text: str | None) -> list[str]:
    """The names of `config.accept_changed`."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def weights(text: str, num_parts: int) -> list[int]:
    """The weights of `config.data.weights`, `2::1`, as the least whole numbers.

    Raises:
      UserError: one for each of the parts is expected, and each above zero.
    """
    field = f"config.data.weights={text}"
    try:
        fractions = [Fraction(weight) for weight in text.split("::")]
    except (ValueError, ZeroDivisionError):
        raise UserError(
            f"{field}: expected numbers with :: between them, such as 2::1"
        ) from None
    if len(fractions) != num_parts:
        raise UserError(
            f"{field}: {len(fractions)} weights for the {num_parts} part(s) of "
            "config.data.train; give one for each, in the same order"
        )
    if min(fractions) <= 0:
        raise UserError(
            f"{field}: expected numbers above 0; leave a part that has no weight out "
            "of config.data.train"
        )
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * scale) for fraction in fractions]
    whole = [number // math.gcd(*whole) for number in whole]
    if sum(whole) > _MOST_SHARES:
        raise UserError(
            f"{field}: as whole numbers {'::'.join(map(str, whole))}, more than "
            f"{_MOST_SHARES} together; give fewer digits"
        )
    return whole


def _value(config: ConfigDict, field: str) -> Any:
    node, _, leaf = field.rpartition(".")
    return (config[node] if node else config)[leaf]
