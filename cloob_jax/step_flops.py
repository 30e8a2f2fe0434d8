"""The FLOPs of a config's train step, whatever devices it is computed on."""

import jax
from ml_collections import ConfigDict

from cloob_jax import chips, flops, program, sharding


def executed(parts: program.Program) -> int:
    """What the step computes, what it computes again included.

    That is `flops.count` of it: of all devices together.
    """
    return flops.count(parts.train_step, parts.abstract_state, parts.abstract_batch)


def executed_passes(parts: program.Program) -> int:
    """The same, times the passes through matrix units: see `flops.count_passes`."""
    arguments = parts.abstract_state, parts.abstract_batch
    return flops.count_passes(parts.train_step, *arguments)


def model(config: ConfigDict) -> int:
    """What the mathematics of a step asks for: the numerator of MFU.

    Counted on the config in its plainest form, on one device: nothing is computed
    again to save memory, and attention is in the open, not in one opaque call.
    """
    plain = ConfigDict(config.to_dict())
    plain.model.remat, plain.model.attention = "none", "xla"
    plain.objective.form = "plain"
    plain.mesh = {"data": 1, "fsdp": 1, "tensor": 1}
    plain.accumulate_steps = 1
    mesh = sharding.make_mesh(**plain.mesh, devices=jax.local_devices()[:1])
    return executed(program.build(plain, mesh))


def seconds_at_peak(config: ConfigDict) -> float | None:
    """How long a step would take, were MFU 1; None where the chips are not known.

    That is `model` by the peak of all chips that there are, as `chips` has it.
    """
    chip = chips.of_device_kind(jax.devices()[0].device_kind)
    if chip is None:
        return None
    num_chips = jax.device_count() / chip.devices_per_chip
    return model(config) / (num_chips * chip.peak_flops)
