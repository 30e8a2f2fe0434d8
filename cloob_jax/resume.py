"""Going on where a run was: its place in the data, and what must not have changed."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from cloob_jax import validation, warm_start
from cloob_jax.checkpoint import Checkpoints, Damaged
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup
from cloob_jax.program import Program
from cloob_jax.state import TrainState

# Fields that may change between two parts of a run, since no state depends on them:
# where the data lies and how it is read (its fingerprint is compared, which covers the
# columns and the weights too), what is shown or kept, and how the same numbers are
# computed.
_FREE = (
    "accept_changed",
    "accumulate_steps",
    "checkpoint_steps",
    "data.columns",
    "data.max_bad_fraction",
    "data.num_threads",
    "data.num_workers",
    "data.shapes",
    "data.stall_seconds",
    "data.train",
    "data.weights",
    "eval_steps",
    "evals",
    "hang_seconds",
    "keep_best",
    "keep_checkpoints",
    "keep_every_steps",
    "log_steps",
    "max_bad_steps",
    "mesh",
    "model.attention",
    "model.remat",
    "model.scan_layers",
    "objective.form",
)

# What older runs did before these fields were there.
_BEFORE = {"data.resize": "pil", "data.shuffle": "global"}


def position(source: Source, examples_seen: int) -> dict[str, Any]:
    """What fixes the next example, beside the seed in the config."""
    return {"examples_seen": examples_seen, "fingerprint": source.fingerprint}


def start(
    checkpoints: Checkpoints,
    program: Program,
    config: ConfigDict,
    source: Source,
    group: ProcessGroup,
    report: Callable[[str], None],
) -> tuple[TrainState, int]:
    """The latest checkpoint's state and examples seen, or a new state and 0.

    Args:
      checkpoints: of the run directory.
      program: whose state it is.
      config: of this run; what has changed and may, `config.accept_changed` says.
      source: the data.
      group: the processes of the run.
      report: told of what has changed, and of checkpoints that are damaged: these are
        set aside, and the one before is taken.

    Raises:
      UserError: none is whole; or the checkpoint was made with other data, or with a
        config that differs in a field on which the run depends, and nobody asked for
        it; or processes see other checkpoints.
    """
    steps = checkpoints.steps()
    group.agree({"the steps in --workdir": steps})
    if not steps:
        return warm_start.apply(program.init(), config, group), 0
    for step in reversed(steps):
        _check_is_run(checkpoints, step)
        found: tuple[TrainState, int] | None = None
        try:
            saved, saved_config = checkpoints.describe(step)
            notes = _compare(step, saved, saved_config, config, source)
            found = (
                checkpoints.restore(step, program.abstract_state),
                saved["examples_seen"],
            )
            damage = None
        except Damaged as error:
            damage = str(error)
        # What one process cannot read, none goes on with.
        damage = group.reduce(damage, lambda told: next(filter(None, told), None))
        if damage is None:
            assert found is not None
            for note in notes:
                report(note)
            return found
        del found
        aside = group.share(
            str(checkpoints.set_aside(step)) if group.is_leader else None
        )
        checkpoints.reload()
        report(f"DAMAGED: {damage}; it now lies in {aside}: going on from one before")
    raise UserError(
        f"--workdir holds no checkpoint that is whole, the last one is now {aside}; "
        "give another --workdir to begin anew"
    )


def _check_is_run(checkpoints: Checkpoints, step: int) -> None:
    if not checkpoints.can_go_on(step):
        raise UserError(
            f"--workdir holds weights (step {step}), not a run to go on with: give "
            "it as --config.init_from, and another --workdir"
        )


def _compare(
    step: int,
    saved: dict[str, Any],
    saved_config: dict[str, Any],
    config: ConfigDict,
    source: Source,
) -> list[str]:
    """What has changed since `step`, and may.

    Raises:
      UserError: something has that nobody asked for.
    """
    accepted = validation.fields(config.accept_changed)
    changed = differences(saved_config, plain(config))
    refused = [change for change in changed if not _covers(accepted, change[0])]
    if refused:
        field, there, here = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        names = ",".join([*accepted, *(name for name, _, _ in refused)])
        raise UserError(
            f"--workdir holds step {step} of a run with config.{field}={there}, now it "
            f"is {here}{more}; give the old value to go on, or another --workdir, or "
            f"--config.accept_changed={names} to go on with the new one"
        )
    notes = [
        f"config.{field} has changed after step {step}: {there} -> {here}"
        for field, there, here in changed
    ]
    if saved["fingerprint"] == source.fingerprint:
        return notes
    if not _covers(accepted, "data.train"):
        names = ",".join([*accepted, "data.train"])
        raise UserError(
            f"config.data.train={config.data.train}: not the data that --workdir "
            f"was trained on up to step {step} (other files, sizes, columns or "
            "weights); point to the same data to go on, or give another --workdir, "
            f"or --config.accept_changed={names} to go on in the new data"
        )
    new_order = f"the data has changed after step {step}: going on in the new order"
    return [new_order, *notes]


def differences(
    saved: dict[str, Any], current: dict[str, Any]
) -> list[tuple[str, Any, Any]]:
    """`(field, saved value, current value)` where the state depends on the field."""
    before, now = _BEFORE | flat(saved), flat(current)
    return [
        (field, before.get(field), now.get(field))
        for field in sorted(before.keys() | now.keys())
        if before.get(field) != now.get(field) and not _covers(_FREE, field)
    ]


def _covers(names: Sequence[str], field: str) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in names)


def plain(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON gives it back."""
    return json.loads(json.dumps(config.to_dict()))


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a plain config by their whole names, `optim.b1`."""
    fields: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields
