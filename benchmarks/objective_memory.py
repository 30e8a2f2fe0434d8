"""What each form of an objective needs: memory, collectives, FLOPs, and time.

    python benchmarks/objective_memory.py --pairs=8192 --run
    python benchmarks/objective_memory.py --pairs=32768 --devices=16
    python benchmarks/objective_memory.py --pairs=32768 --topology=v5e:4x4

Compiles the gradient with respect to both sides' embeddings, for CPU devices or, with
the extra `tpu`, for a TPU slice that need not be there. With --run it is also timed, in
turns, so that all forms meet the same neighbours; the accuracy is against float64.
"""

import argparse
import os
import statistics
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[8192])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--devices", type=int, default=1, help="CPU devices")
    parser.add_argument("--topology", help="a TPU slice instead, such as v5e:4x4")
    parser.add_argument("--objectives", nargs="+", default=["cloob"])
    parser.add_argument("--forms", nargs="+", default=["plain", "gather", "ring"])
    parser.add_argument("--run", action="store_true", help="time it too")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.topology or given.devices > 1:
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["JAX_NUM_CPU_DEVICES"] = str(given.devices)
    measure(given)


def measure(given: argparse.Namespace) -> None:
    # After the environment is set, which JAX reads once.
    import record

    mesh = make_mesh(given)
    rows = []
    for name in given.objectives:
        for pairs in given.pairs:
            rows += compare(given, mesh, name, pairs)
    record.append("objective_memory", vars(given), rows)


def compare(given: argparse.Namespace, mesh, name: str, pairs: int) -> list[dict]:
    import jax

    print(f"{name}, {pairs} pairs x {given.width}, {mesh.size} devices")
    print(f"{'':8}compile   temporaries     less", end="")
    print("  step: median (quartiles)    error" if given.run else "")
    programs, rows = {}, []
    for form in given.forms:
        start = time.perf_counter()
        programs[form] = compile_gradient(name, form, mesh, pairs, given.width)
        seconds = time.perf_counter() - start
        temporaries = programs[form].memory_analysis().temp_size_in_bytes
        rows.append(
            {
                "objective": name,
                "pairs": pairs,
                "form": form,
                "compile_seconds": seconds,
                "temporary_bytes": temporaries,
            }
        )
    if given.run:
        inputs = embeddings(pairs, given.width)
        reference = float64_gradient(name, inputs)
        times: dict[str, list[float]] = {form: [] for form in programs}
        for _ in range(given.rounds + 1):
            for form, program in programs.items():
                start = time.perf_counter()
                found = jax.block_until_ready(program(*inputs))
                times[form].append(time.perf_counter() - start)
                error = relative_error(found[0], reference)
                rows[list(programs).index(form)]["error"] = error
        for row in rows:
            row["seconds"] = statistics.quantiles(times[row["form"]][1:], n=4)
    for row in rows:
        less = rows[0]["temporary_bytes"] / max(row["temporary_bytes"], 2**20)
        print(
            f"{row['form']:8}{row['compile_seconds']:5.0f} s  "
            f"{row['temporary_bytes'] / 2**20:8.0f} MiB  {less:6.1f} x",
            end="",
        )
        if given.run:
            low, median, high = row["seconds"]
            print(f"  {median:6.2f} s ({low:.2f} to {high:.2f})", end="")
            print(f"    {row['error']:.1e}", end="")
        print()
    return rows


def make_mesh(given: argparse.Namespace):
    import jax
    import numpy as np
    from jax.experimental import topologies

    devices = jax.devices()
    if given.topology:
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        devices = topologies.get_topology_desc(given.topology, "tpu").devices
    return jax.sharding.Mesh(np.asarray(devices), ("data",))


def compile_gradient(name: str, form: str, mesh, pairs: int, width: int):
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from cloob_jax import objectives

    rows = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    side = jax.ShapeDtypeStruct((pairs, width), jnp.float32, sharding=rows)
    objective = objectives.build(name, form=form, mesh=mesh)
    gradient = jax.jit(
        jax.grad(objective, argnums=(0, 1), has_aux=True),
        out_shardings=((rows, rows), whole),
    )
    return gradient.lower(side, side).compile()


def embeddings(pairs: int, width: int) -> tuple:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.normal(size=(pairs, width)) + rng.normal(size=width)
    texts = images + rng.normal(size=(pairs, width))
    sides = (images, texts)
    return tuple(
        (side / np.linalg.norm(side, axis=1, keepdims=True)).astype(np.float32)
        for side in sides
    )


def float64_gradient(name: str, inputs: tuple) -> tuple:
    """By the form in blocks: the plain one would take twice its memory."""
    import jax
    import numpy as np

    from cloob_jax import objectives

    with jax.enable_x64(True):
        wide = [np.asarray(side, np.float64) for side in inputs]
        objective = objectives.build(name, form="gather")
        gradient = jax.jit(jax.grad(objective, argnums=(0, 1), has_aux=True))
        return tuple(np.asarray(side) for side in gradient(*wide)[0])


def relative_error(found: tuple, reference: tuple) -> float:
    import numpy as np

    return max(
        float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b)))
        for a, b in zip(found, reference, strict=True)
    )


if __name__ == "__main__":
    main()
