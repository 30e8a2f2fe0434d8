"""What scanning and rematerialisation of layers cost and save.

    python benchmarks/encoders.py --model=ViT-B-32 --batch_size=16

Compiles the gradient of both encoders for every policy, prints the time to compile, the
memory for temporaries and, in turns so that all meet the same neighbours, the median
time of a step with its quartiles.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from cloob_jax import models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-32", choices=models.NAMES)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()

    steps = {}
    for scan in (True, False):
        for remat in models.REMAT_POLICIES:
            compute = models.Compute(jnp.dtype(given.dtype), remat, scan)
            model = models.build(given.model, compute=compute)
            inputs = batch(model, given.batch_size)
            start = time.perf_counter()
            step, variables = compile_gradient(model, inputs)
            name = f"{'scanned' if scan else 'unrolled':8}  remat {remat}"
            steps[name] = step, variables, inputs, time.perf_counter() - start
    times = {name: [] for name in steps}
    for _ in range(given.rounds + 1):
        for name, (step, variables, inputs, _) in steps.items():
            start = time.perf_counter()
            jax.block_until_ready(step(variables, *inputs))
            times[name].append(time.perf_counter() - start)

    print(f"{given.model}, batch {given.batch_size}, {given.dtype}, {jax.devices()[0]}")
    print(f"{'':22}  compile    temporaries  step: median (quartiles)")
    for name, (step, _, _, compile_time) in steps.items():
        memory = step.memory_analysis().temp_size_in_bytes / 2**20
        low, median, high = statistics.quantiles(times[name][1:], n=4)
        print(
            f"{name:22}  {compile_time:6.1f} s  {memory:8.0f} MiB  "
            f"{median:6.2f} s ({low:.2f} to {high:.2f})"
        )


def batch(model: models.DualEncoder, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (size, model.image_size, model.image_size, 3)
    texts = rng.integers(1, 49406, (size, model.context_length), np.int32)
    texts[:, -1] = 49407
    return rng.normal(size=shape).astype(np.float32), texts


def compile_gradient(model: models.DualEncoder, inputs: tuple) -> tuple:
    def loss(params, rest, images, texts):
        (image_embeds, text_embeds), _ = model.apply(
            {"params": params, **rest}, images, texts, train=True, mutable=[*rest]
        )
        return jnp.sum(image_embeds * text_embeds)

    def gradient(variables, images, texts):
        rest = {k: v for k, v in variables.items() if k != "params"}
        return jax.grad(loss)(variables["params"], rest, images, texts)

    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    variables = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes
    )
    return jax.jit(gradient).lower(variables, *inputs).compile(), variables


if __name__ == "__main__":
    main()
