"""What is said of a run on a slice: the facts of the compiler, and what follows."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from cloob_jax.planning import compiler, roofline
from cloob_jax.planning.topology import Topology
from cloob_jax.writers import Progress

_DAY = 24 * 3600

Plan = dict[str, Any]
Config = dict[str, Any]  # plain, as JSON gives it back


def make(
    config: Config, where: Topology, progress: Progress, search_batch: bool = False
) -> Plan:
    """The plan of a config's run on a slice.

    Args:
      config: of the run.
      where: the slice.
      progress: tells how long the compiler takes.
      search_batch: plan as many pairs in the largest batches that fit instead.

    Raises:
      UserError: what `compiler.facts` refuses.
    """
    num_pairs = _num_pairs(config)
    if search_batch:
        config = with_largest_batch(config, where, progress)
    facts = _facts(config, where, progress)
    plan: Plan = {
        "model": config["model"]["name"],
        "objective": config["objective"]["name"],
        "topology": where.name,
        "num_chips": where.num_chips,
        "num_devices": where.num_devices,
        "chip": dataclasses.asdict(where.chip),
        "batch_size": config["batch_size"],
        "accumulate_steps": config["accumulate_steps"],
        "num_pairs": num_pairs,
        **facts,
    }
    if facts["fits"]:
        plan |= _times(facts, where, config["batch_size"], num_pairs)
    return plan


def with_largest_batch(config: Config, where: Topology, progress: Progress) -> Config:
    """The config with the largest batch that fits, in as many steps.

    Tried are multiples of the smallest batch that divides over the devices and into
    BatchNorm's groups: doubled or halved, then bisected until one fits of which the
    next that does not is at most an eighth larger. Where not even the smallest fits,
    the config has that one.

    Raises:
      UserError: what `compiler.facts` refuses.
    """
    unit = _smallest_batch(config, where)
    # As many steps for every batch: no schedule may refuse one that would fit.
    steps = max(_num_pairs(config) // config["batch_size"], 1)

    def with_batch(size: int) -> Config:
        return config | {
            "batch_size": size,
            "total_steps": steps,
            "total_examples": None,
        }

    def fits(multiple: int) -> bool:
        found = _facts(with_batch(multiple * unit), where, progress)["fits"]
        verdict = "fits" if found else "does not fit"
        progress.line(f"a batch of {multiple * unit:,} {verdict}")
        return found

    size = unit * _largest(fits, config["batch_size"] // unit)
    return with_batch(size)


def _facts(config: Config, where: Topology, progress: Progress) -> compiler.Facts:
    what = f"compiling a batch of {config['batch_size']:,} for {where.name}"
    return compiler.facts(config, where, lambda s: progress.show(what, s))


def _times(
    facts: compiler.Facts, where: Topology, batch_size: int, num_pairs: int
) -> Plan:
    bound = roofline.of_step(facts, where)
    pairs_per_second = batch_size / bound.seconds
    return {
        "seconds": {
            "compute": bound.compute,
            "memory": bound.memory,
            "links": bound.links,
        },
        "limit": bound.limit,
        "step_seconds": bound.seconds,
        "mfu": bound.mfu,
        "pairs_per_second": pairs_per_second,
        "days": num_pairs / pairs_per_second / _DAY,
    }


def _num_pairs(config: Config) -> int:
    """Of the whole run; 0 where it has no length, which the compiler refuses."""
    steps = config["total_steps"] or 0
    return config["total_examples"] or steps * config["batch_size"]


def _smallest_batch(config: Config, where: Topology) -> int:
    mesh = config["mesh"]
    parts = mesh["data"] * mesh["fsdp"]
    if mesh["tensor"] > 0:
        parts = where.num_devices // mesh["tensor"]
    parts *= config["accumulate_steps"]
    groups = config["model"]["bn_groups"]
    unit = math.lcm(max(parts, 1), groups)
    return unit if unit > groups else 2 * unit  # a group is of two or more


def _largest(fits: Callable[[int], bool], guess: int) -> int:
    """The largest number that fits, within an eighth; 1 if there is none."""
    fitting, too_large = 0, None
    number = 1 << max(guess, 1).bit_length() - 1
    while too_large is None or too_large - fitting > max(fitting // 8, 1):
        if fits(number):
            fitting = number
        else:
            too_large = number
        if too_large is None:
            number = 2 * fitting
        else:
            number = (fitting + too_large) // 2
    return max(fitting, 1)
