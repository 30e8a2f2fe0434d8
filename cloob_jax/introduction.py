"""What is about to happen, in a few lines."""

import jax

from cloob_jax.data import mixture, remote_files
from cloob_jax.run import Run
from cloob_jax.state import TrainState


def text(run: Run, state: TrainState, examples_seen: int) -> str:
    """What there is to say before the first step, or the next one."""
    config, parts = run.config, run.parts
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = jax.devices()
    mesh = " x ".join(
        f"{axis} {size}" for axis, size in parts.batch_sharding.mesh.shape.items()
    )
    processes = f" in {run.group.size} processes" if run.group.size > 1 else ""
    step = int(state.step)
    num_examples = examples_seen + (parts.total_steps - step) * config.batch_size
    epochs = " and ".join(
        f"{e:.1f}" for e in mixture.epochs(run.load.source, num_examples)
    )
    lines = [
        f"{config.model.name}, {count / 1e6:.1f} million parameters, "
        f"{config.model.dtype}, attention by {parts.model.text.compute.attention}; "
        f"objective {config.objective.name} in the form {parts.objective_form}",
        f"{len(devices)} {devices[0].device_kind} device(s){processes}, mesh {mesh}; "
        f"run directory {run.place.shared}",
        f"{len(run.load.source)} pairs from {config.data.train}; {parts.total_steps} "
        f"steps of {config.batch_size}, {epochs} epochs",
    ]
    if run.bad:
        lines.append(f"{len(run.bad)} bad records so far, listed in {run.bad.path}")
    if remote_files.is_remote(config.data.train) and config.data.shuffle == "global":
        lines.append(
            "every example is a request of its own: config.data.shuffle=window reads "
            "large pieces"
        )
    if config.init_from and not step:
        part = "" if config.init_match is None else f" ({config.init_match})"
        lines.append(f"starting from the weights of {config.init_from}{part}")
    if step:
        lines.append(f"going on after step {step}")
    return "\n".join(lines)
