"""Which device holds what: the mesh, and the table from parameter names to its axes.

Models and objectives know nothing of this. `data` splits the batch; `fsdp` splits the
batch as well as parameters and their moments; `tensor` splits layers by their width.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cloob_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
_BATCH = PartitionSpec(("data", "fsdp"))
_PARTS = PartitionSpec(None, *_BATCH)

# The first expression found in a parameter's path decides. The paths of the optimiser's
# moments end with those of their parameters, so one table serves the whole state.
_RULES = (
    (r"attention/(query|key|value)/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"attention/out/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"mlp/fc/kernel$", PartitionSpec("fsdp", "tensor")),
    (r"mlp/proj/kernel$", PartitionSpec("tensor", "fsdp")),
    (r"token_embedding/embedding$", PartitionSpec("tensor", "fsdp")),
    (r"attnpool/.*kernel$", PartitionSpec("fsdp", "tensor")),
    (r"(conv[^/]*|patch_embedding)/kernel$", PartitionSpec(None, None, None, "fsdp")),
    (r"projection/kernel$", PartitionSpec("fsdp", None)),
    (r"", PartitionSpec()),
)


def make_mesh(
    data: int = -1,
    fsdp: int = 1,
    tensor: int = 1,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of the devices; one axis may be -1: what the others leave.

    Args:
      data: devices along that axis.
      fsdp: the same.
      tensor: the same.
      devices: all there are, if not given.

    Raises:
      UserError: the axes do not multiply to the number of devices.
    """
    shape = [data, fsdp, tensor]
    count = jax.device_count() if devices is None else len(devices)
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and count % known == 0:
        shape[shape.index(-1)] = count // known
    if math.prod(shape) != count or min(shape) < 1:
        wanted = " x ".join(f"{a}={s}" for a, s in zip(AXES, shape, strict=True))
        raise UserError(
            f"config.mesh: {wanted} does not make the {count} device(s) there are; "
            "give axes whose product is that, one of them may be -1"
        )
    # Without the split a torus of 4 x 4 x 4 chips is refused for 32 x 2.
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    # Auto: with Explicit axes every einsum would need a sharding.
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def batch_sharding(
    mesh: Mesh, batch_size: int, accumulate_steps: int = 1
) -> NamedSharding:
    """How a global batch lies on the mesh: examples over `data` and `fsdp`.

    With more than one of `accumulate_steps` the batch has a leading axis of its parts,
    each of which lies so.

    Raises:
      UserError: the batch does not divide.
    """
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    parts = devices * accumulate_steps
    if batch_size % parts:
        nearest = max(parts, round(batch_size / parts) * parts)
        times = f" in {accumulate_steps} parts" if accumulate_steps > 1 else ""
        raise UserError(
            f"config.batch_size={batch_size}{times} does not divide over {devices} "
            f"devices (mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}); "
            f"the nearest that does is {nearest}"
        )
    return NamedSharding(mesh, _BATCH if accumulate_steps == 1 else _PARTS)


@functools.cache  # so that equal models are known to be equal
def placing(mesh: Mesh) -> dict[str, Callable[[jax.Array], jax.Array]]:
    """`place` and `gather` of `models.Compute`, on this mesh.

    Fewer examples than devices, as when parameters are drawn, may lie anywhere.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]

    def place(x: jax.Array) -> jax.Array:
        if x.shape[0] % parts:
            return x
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, _BATCH))

    def gather(table: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(table, replicated(mesh))

    return {"place": place, "gather": gather}


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def tree_shardings(abstract: Any, mesh: Mesh) -> Any:
    """The sharding of every array of a state, by the table above.

    Args:
      abstract: a tree of arrays or `ShapeDtypeStruct`.
      mesh: with the axes `AXES`.
    """

    def rule(path: tuple, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = next(spec for expression, spec in _RULES if re.search(expression, name))
        if "/blocks/" in name:
            spec = PartitionSpec(None, *spec)  # the axis of layers
        return NamedSharding(mesh, _fitting(spec, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(rule, abstract)


def table(abstract: Any) -> str:
    """What of a state lies where: a line an array, and sums by its fields.

    Args:
      abstract: a dataclass whose leaves are `ShapeDtypeStruct` with shardings.

    Returns:
      Path, shape, specification and bytes on each device, in aligned columns.
    """
    rows = [("array", "shape", "sharded over", "bytes per device")]
    held: dict[str, int] = {}
    whole: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        count = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        axes = [str(axis or "-") for axis in leaf.sharding.spec]
        spec = ", ".join(axes) if set(axes) - {"-"} else "whole"
        shape = " x ".join(map(str, leaf.shape))
        rows.append((name, shape, spec, f"{count:,}"))
        field = name.partition("/")[0]
        held[field] = held.get(field, 0) + count
        whole[field] = whole.get(field, 0) + leaf.size * leaf.dtype.itemsize
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False))
        + f"  {row[3]:>16}"
        for row in rows
    ]
    lines += [
        f"{field}: {count / 1e6:,.1f} MB per device of {whole[field] / 1e6:,.1f} MB"
        for field, count in held.items()
    ]
    total = f"{sum(held.values()) / 1e6:,.1f} MB per device"
    return "\n".join([*lines, f"together: {total}"])


def _fitting(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Drops an axis that does not divide its dimension: small layers stay whole."""
    if len(spec) > len(shape):
        return PartitionSpec()
    return PartitionSpec(
        *(
            axis if axis is None or size % mesh.shape[axis] == 0 else None
            for axis, size in zip(spec, shape, strict=False)
        )
    )
