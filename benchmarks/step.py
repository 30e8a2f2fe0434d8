"""How fast a train step is: images per second, MFU and peak memory.

    python benchmarks/step.py --model=ViT-B-16 --batch_size=1024
    python benchmarks/step.py --model=RN50 --batch_size=1024 --against_open_clip

The step is the one that `main` runs, on all devices that there are, on one batch that
lies on them already. --against_open_clip (extra `reference`) takes turns, a process
each, with OpenCLIP's model and loss in PyTorch, see `step_open_clip.py`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import record

from cloob_jax import chips, program, sharding, step_flops


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--remat", default="none")
    parser.add_argument("--form", default="auto", help="of the objective")
    parser.add_argument("--accumulate_steps", type=int, default=1)
    parser.add_argument("--fsdp", type=int, default=1)
    parser.add_argument("--against_open_clip", action="store_true")
    parser.add_argument("--turns", type=int, default=2, help="of each, if against")
    parser.add_argument("--json", action="store_true", help="print a JSON line only")
    given = parser.parse_args()
    if given.against_open_clip:
        rows = take_turns(given)
    else:
        rows = [measure(given)]
    if given.json:
        print(json.dumps(rows[0]))
        return
    show(rows)
    record.append("step", vars(given), rows)


def arguments(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch_size", type=int, default=1024)
    parser.add_argument("--objective", default="cloob")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--steps", type=int, default=10, help="timed, in each turn")
    return parser


def measure(given: argparse.Namespace) -> dict:
    """One turn of ours."""
    from configs import common  # found by what `record` does

    config = common.get_config()
    config.model.name, config.model.dtype = given.model, given.dtype
    config.model.remat = given.remat
    config.objective.name, config.objective.form = given.objective, given.form
    config.batch_size, config.total_steps = given.batch_size, 10**6
    config.accumulate_steps = given.accumulate_steps
    config.model.bn_groups = given.accumulate_steps
    config.mesh.fsdp = given.fsdp
    config.optim.learning_rate = 1e-4
    parts = program.build(config, sharding.make_mesh(**config.mesh))
    state, batch = parts.init(), make_batch(parts)
    start = time.perf_counter()
    compiled = parts.train_step.lower(state, batch).compile()
    compile_seconds = time.perf_counter() - start
    times = []
    for number in range(given.steps + 2):
        start = time.perf_counter()
        state, metrics = compiled(state, batch)
        jax.block_until_ready(metrics)
        if number >= 2:
            times.append(time.perf_counter() - start)
    device = jax.devices()[0]
    seconds = statistics.median(times)
    model_flops = step_flops.model(config)
    chip = chips.of_device_kind(device.device_kind)
    rate = model_flops / seconds / jax.device_count()
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use")
    if memory is None:  # a CPU
        found = compiled.memory_analysis()
        memory = found.argument_size_in_bytes + found.temp_size_in_bytes
    return {
        "who": "cloob_jax",
        "objective_form": parts.objective_form,
        "images_per_second": given.batch_size / seconds,
        "step_seconds": statistics.quantiles(times, n=4),
        "compile_seconds": compile_seconds,
        "model_flops": model_flops,
        "flops_per_second": rate,
        "mfu": rate * chip.devices_per_chip / chip.peak_flops if chip else None,
        "peak_bytes": memory,
        "device": f"{jax.device_count()} x {device.device_kind}",
    }


def make_batch(parts: program.Program) -> dict:
    rng = np.random.default_rng(0)
    image, text = parts.abstract_batch["image"], parts.abstract_batch["text"]
    texts = rng.integers(1, 49406, text.shape, np.int32)
    texts[..., -1] = 49407
    images = rng.integers(0, 256, image.shape, np.uint8)
    return {
        "image": jax.device_put(images, image.sharding),
        "text": jax.device_put(texts, text.sharding),
    }


def take_turns(given: argparse.Namespace) -> list[dict]:
    """Ours, theirs, ours, theirs, ...: each in a process of its own."""
    here = Path(__file__).parent
    shared = [
        f"--{name}={getattr(given, name)}"
        for name in ("model", "batch_size", "objective", "dtype", "steps")
    ]
    own = [
        f"--{name}={getattr(given, name)}"
        for name in ("remat", "form", "accumulate_steps", "fsdp")
    ]
    rows = []
    for _ in range(given.turns):
        for script, options in (("step.py", own), ("step_open_clip.py", [])):
            command = [sys.executable, str(here / script), "--json", *shared, *options]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            show(rows[-1:])
    return rows


def show(rows: list[dict]) -> None:
    for row in rows:
        low, median, high = row["step_seconds"]
        mfu = "?" if row["mfu"] is None else f"{row['mfu']:.1%}"
        print(
            f"{row['who']:10} {row['images_per_second']:9.1f} images/s  "
            f"step {median * 1e3:.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})  "
            f"MFU {mfu}  peak {row['peak_bytes'] / 2**30:.2f} GiB  "
            f"compiled in {row['compile_seconds']:.0f} s  {row['device']}"
        )
    ours = [r["images_per_second"] for r in rows if r["who"] == "cloob_jax"]
    theirs = [r["images_per_second"] for r in rows if r["who"] != "cloob_jax"]
    if ours and theirs:
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"{ratio:.2f} times OpenCLIP's images per second")


if __name__ == "__main__":
    main()
