"""The FLOPs of a config's train step, whatever devices it is computed on."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cloob_jax import flops, program, sharding


def executed(parts: program.Program, batch_size: int) -> int:
    """What the step computes, what it computes again included.

    That is `flops.count` of it: of all devices together.
    """
    batch = abstract_batch(parts, batch_size)
    return flops.count(parts.train_step, parts.abstract_state, batch)


def model(config: ConfigDict) -> int:
    """What the mathematics of a step asks for: the numerator of MFU.

    Counted on the config in its plainest form, on one device: nothing is computed
    again to save memory, and attention is in the open, not in one opaque call.
    """
    plain = ConfigDict(config.to_dict())
    plain.model.remat, plain.model.attention = "none", "xla"
    plain.objective.form = "plain"
    plain.mesh = {"data": 1, "fsdp": 1, "tensor": 1}
    if "accumulate_steps" in plain:
        plain.accumulate_steps = 1
    mesh = sharding.make_mesh(**plain.mesh, devices=jax.local_devices()[:1])
    return executed(program.build(plain, mesh), config.batch_size)


def abstract_batch(
    parts: program.Program, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, types and shardings of a global batch."""
    size, length = parts.model.image_size, parts.model.context_length
    return {
        "image": jax.ShapeDtypeStruct(
            (batch_size, size, size, 3), jnp.uint8, sharding=parts.batch_sharding
        ),
        "text": jax.ShapeDtypeStruct(
            (batch_size, length), jnp.int32, sharding=parts.batch_sharding
        ),
    }
