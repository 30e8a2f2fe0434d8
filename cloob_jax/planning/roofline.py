"""The least time that a step can take, from what it does and what a chip can do."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cloob_jax.planning.topology import Topology


@dataclasses.dataclass(frozen=True)
class Roofline:
    """A lower bound of a step's time, of which no program comes closer than its part.

    Attributes:
      compute: seconds of all executed FLOPs at the chips' peak in bfloat16, six passes
        for the objective's products of float32.
      memory: seconds of the traffic with HBM at its bandwidth.
      links: seconds of the collectives over all the links that a chip has.
      model_flops: of a step, of all chips.
      peak_flops: per second, of all chips.
    """

    compute: float
    memory: float
    links: float
    model_flops: float
    peak_flops: float

    @property
    def seconds(self) -> float:
        """The longest of the three: they can overlap."""
        return max(self.compute, self.memory, self.links)

    @property
    def limit(self) -> str:
        """Which of the three it is."""
        names = ("compute", "memory", "links")
        return max(names, key=lambda name: getattr(self, name))

    @property
    def mfu(self) -> float:
        """The model FLOPs in that time as a share of the peak."""
        return self.model_flops / (self.peak_flops * self.seconds)


def of_step(facts: Mapping[str, Any], topology: Topology) -> Roofline:
    """The bound of a step that fits, `facts` being what `aot.measure` says of it."""
    chip = topology.chip
    received = sum(each["received_bytes"] for each in facts["collectives"].values())
    peak = chip.peak_flops * topology.num_chips
    return Roofline(
        compute=facts["executed_passes"] / peak,
        memory=facts["hbm_bytes"] * chip.devices_per_chip / chip.hbm_bandwidth,
        links=received / topology.link_bandwidth if received else 0.0,
        model_flops=facts["model_flops"],
        peak_flops=peak,
    )
