"""Compiles the train step for TPU chips that are not there, ahead of time.

    python -m cloob_jax.planning.aot REQUEST.json ANSWER.json

`plan` starts it as a process of its own, so that what the compiler prints, holds and
dies of stays there. It uses no accelerator: its own backend is the CPU.
"""

import dataclasses
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

# For a compiler alone; it would ask the cloud's metadata server who and where it is.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

import jax  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from ml_collections import ConfigDict  # noqa: E402

from cloob_jax import program, sharding, step_flops  # noqa: E402
from cloob_jax.errors import UserError  # noqa: E402
from cloob_jax.planning import collectives, hbm_traffic, hlo  # noqa: E402
from cloob_jax.planning.topology import Topology, parse  # noqa: E402

_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
# The two ways in which libtpu says it, as "needed, there is"; G is GiB.
_NEEDED = (
    r"required for .*?\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)",
    r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm",
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def devices(topology: Topology) -> list[jax.Device]:
    """The devices of a slice, to compile for and not to run on."""
    options: dict[str, Any] = {}
    if topology.chip.name == "v4":
        # As Cloud TPU runs them: one device a chip, of both its cores.
        options["chip_config_name"] = "megacore"
    if topology.num_chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    description = topologies.get_topology_desc(
        platform="tpu", topology_name=topology.name, **options
    )
    return list(description.devices)


def measure(config: ConfigDict, topology: Topology) -> dict[str, Any]:
    """What the compiler says of the train step of `config` on that slice.

    Returns:
      `mesh` with its sizes and `num_parameters`; `model_flops`, `executed_flops` and
      `executed_passes` (those times the passes through matrix units) of a step, of all
      devices together; whether it `fits`. If so, a device and step:
      `memory` (bytes), `hbm_bytes` (of traffic), `collectives` by kind and
      `unknown_collectives`; if not, what `out_of_memory` reads.

    Raises:
      UserError: a config that cannot be meant, or a mesh that the slice does not make.
    """
    mesh = sharding.make_mesh(**config.mesh, devices=devices(topology))
    parts = program.build(config, mesh)
    step: Any = parts.train_step  # what jit makes has more to it than a call
    lowered = step.lower(parts.abstract_state, parts.abstract_batch)
    facts: dict[str, Any] = {
        "mesh": dict(mesh.shape),
        "objective_form": parts.objective_form,
        "num_parameters": sum(
            leaf.size for leaf in jax.tree.leaves(parts.abstract_state.params)
        ),
        "model_flops": step_flops.model(config),
        "executed_flops": step_flops.executed(parts),
        "executed_passes": step_flops.executed_passes(parts),
    }
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if _OUT_OF_MEMORY not in str(error):
            raise
        return facts | {"fits": False} | out_of_memory(str(error))
    compiled_program = hlo.Program(compiled.as_text())
    traffic = collectives.count(compiled_program)
    return facts | {
        "fits": True,
        "memory": _memory(compiled.memory_analysis()),
        "collectives": {
            kind: dataclasses.asdict(each) for kind, each in traffic.by_kind.items()
        },
        "unknown_collectives": traffic.unknown,
        "hbm_bytes": hbm_traffic.count(compiled_program),
    }


def out_of_memory(message: str) -> dict[str, Any]:
    """The figures in the compiler's refusal, None where it gives none, and its words.

    It needs as many bytes as a device, arguments included, would have to have.
    """
    found = next(filter(None, (re.search(form, message) for form in _NEEDED)), None)
    needed, usable = map(_num_bytes, found.groups()) if found else (None, None)
    words = " ".join(message.split("\n\n")[0].split())
    return {"needed_bytes": needed, "usable_bytes": usable, "message": words}


def _num_bytes(figure: str) -> int:
    number = figure.rstrip("".join(_UNITS))
    return round(float(number) * _UNITS[figure[len(number) :]])


def _memory(analysis: Any) -> dict[str, int]:
    return {
        "arguments": analysis.argument_size_in_bytes,
        "temporaries": analysis.temp_size_in_bytes,
        # The rest of the new state takes the place of the old.
        "outputs": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        "program": analysis.generated_code_size_in_bytes,
        "peak": analysis.peak_memory_in_bytes,
    }


def _end_with(parent: int) -> None:
    """Ends this process soon after the one that asks, which a kill may have ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _main(request: Path, answer: Path) -> None:
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    asked = json.loads(request.read_text())
    try:
        result = measure(ConfigDict(asked["config"]), parse(asked["topology"]))
    except UserError as error:
        result = {"error": str(error)}
    except Exception as error:  # of whatever the compiler cannot do
        words = " ".join(str(error).split())[:500]
        result = {"error": f"the compiler refuses: {type(error).__name__}: {words}"}
    answer.write_text(json.dumps(result))


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
