"""Schedules against closed formulas, AdamW against its equations in float64."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cloob_jax import optim
from cloob_jax.errors import UserError


def expected_rate(name, step, *, warmup, total, cycles):
    """The formula of the CLOOB authors' scheduler, with exact cycle ends."""
    if step < warmup:
        return step / warmup
    progress = Fraction(step - warmup, total - warmup)
    if name == "constant":
        return 1.0
    if progress >= 1:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * float(cycles * progress % 1)))


@pytest.mark.parametrize(
    ("name", "warmup", "total", "cycles"),
    [
        ("cosine", 10, 110, 1),
        ("cosine", 0, 7, 1),
        ("constant", 10, 50, 1),
        ("cosine_restarts", 20, 220, 10),  # cycles of 20 steps
        ("cosine_restarts", 7, 104, 3),  # cycles of 32 1/3 steps
        ("cosine_restarts", 0, 5, 7),  # more cycles than steps
    ],
)
def test_schedule_is_the_formula_at_every_step(name, warmup, total, cycles):
    schedule = optim.schedule(name, 3e-4, warmup, total, cycles)
    steps = range(total + 5)
    expected = [
        3e-4 * expected_rate(name, step, warmup=warmup, total=total, cycles=cycles)
        for step in steps
    ]
    actual = jax.jit(schedule)(jnp.asarray(steps))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-4 * 3e-7)
    on_host = schedule(np.array(steps))
    assert isinstance(on_host, np.ndarray) and on_host.dtype == actual.dtype
    np.testing.assert_allclose(on_host, expected, rtol=1e-6, atol=3e-4 * 1e-7)
    assert schedule(warmup) == np.float32(3e-4)


def test_restarts_of_the_published_run_fall_on_its_steps():
    # README of ml-jku/cloob for CC3M: 5644 steps an epoch, 70 epochs, 10 cycles.
    schedule = optim.schedule("cosine_restarts", 1e-3, 20_000, 395_080, 10)
    ends = 20_000 + 37_508 * np.arange(1, 10)
    np.testing.assert_array_equal(schedule(ends), np.float32(1e-3))
    np.testing.assert_allclose(schedule(ends - 1), 0, atol=1e-11)
    assert schedule(395_080) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosin", 1e-3, 1, 10), "unknown schedule 'cosin': did you mean cosine"),
        (("cosine", 1e-3, 10, 10), "warmup_steps=10"),
        (("cosine", 1e-3, 1, 10, 2), "num_cycles=2"),
        (("cosine_restarts", 1e-3, 1, 10, 0), "num_cycles=0"),
        (("cosine_restarts", 1e-3, 0, 2**30, 2), "fewer cycles"),
    ],
)
def test_schedule_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        optim.schedule(*arguments)


# A parameter of each kind, and whether it is decayed; layers may be stacked.
DECAYED = {
    "model": {
        "visual": {
            "conv1": {"kernel": True},
            "layer1_0": {
                "conv1": {"kernel": True},
                "downsample_norm": {"scale": False, "bias": False},
            },
            "class_embedding": False,
            "positional_embedding": True,
            "projection": True,
        },
        "text": {
            "token_embedding": {"embedding": True},
            "positional_embedding": True,
            "blocks": {
                "norm": {"scale": False, "bias": False},
                "mlp": {"kernel": True, "bias": False},
            },
            "projection": True,
        },
    },
    "objective": {"log_inv_tau": False, "bias": False},
}


def test_decay_mask_goes_by_name():
    params = jax.tree.map(lambda _: jnp.ones((2, 3)), DECAYED)
    assert optim.decay_mask(params) == DECAYED


def test_decay_mask_does_not_guess():
    with pytest.raises(ValueError, match="model/visual/gamma"):
        optim.decay_mask({"model": {"visual": {"gamma": jnp.ones(3)}}})


def adamw_float64(params, gradients, rates, *, decay, b1, b2, eps, clip):
    """Loshchilov and Hutter 2019, algorithm 2, with the schedule on both terms."""
    params = {name: value.astype(np.float64) for name, value in params.items()}
    first = {name: 0.0 for name in params}
    second = {name: 0.0 for name in params}
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        norm = math.sqrt(sum((value**2).sum() for value in gradient.values()))
        for name in params:
            g = gradient[name] * min(1, clip / norm)
            first[name] = b1 * first[name] + (1 - b1) * g
            second[name] = b2 * second[name] + (1 - b2) * g**2
            scaled = (first[name] / (1 - b1**step)) / (
                np.sqrt(second[name] / (1 - b2**step)) + eps
            )
            shrink = decay * params[name] if name == "kernel" else 0
            params[name] = params[name] - rate * (scaled + shrink)
    return params


@pytest.mark.parametrize("clip", [None, 1.5])
def test_adamw_is_its_equations(clip):
    rng = np.random.default_rng(0)
    shapes = {"kernel": (4, 3), "bias": (3,), "scale": (3,)}
    draw = functools.partial(rng.normal, scale=0.5)
    start = {name: draw(size=s).astype(np.float32) for name, s in shapes.items()}
    gradients = [
        {name: draw(size=s).astype(np.float32) for name, s in shapes.items()}
        for _ in range(5)
    ]
    schedule = optim.schedule("cosine", 0.1, 2, 6)
    hyper = {"b1": 0.9, "b2": 0.98, "eps": 1e-3}
    tx = optim.build(schedule, weight_decay=0.2, grad_clip_norm=clip, **hyper)
    params = {"model": {"visual": jax.tree.map(jnp.asarray, start)}, "objective": {}}
    state = tx.init(params)
    for gradient in gradients:
        gradient = {"model": {"visual": gradient}, "objective": {}}
        updates, state = jax.jit(tx.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)

    rates = [
        0.1 * expected_rate("cosine", step, warmup=2, total=6, cycles=1)
        for step in range(5)
    ]
    expected = adamw_float64(
        start, gradients, rates, decay=0.2, clip=clip or math.inf, **hyper
    )
    for name in shapes:
        np.testing.assert_allclose(
            params["model"]["visual"][name], expected[name], rtol=1e-5, atol=1e-6
        )


def build_with_rate(rate):
    return optim.build(
        lambda step: rate,
        weight_decay=0.1,
        b1=0.9,
        b2=0.98,
        eps=1e-6,
        grad_clip_norm=None,
    )


def test_log_inv_tau_stays_within_0_and_ln_100():
    params = {
        "model": {"kernel": jnp.ones((2, 2))},
        "objective": {
            "log_inv_tau": jnp.float32(math.log(20)),
            "bias": jnp.float32(-9),
        },
    }
    for rate, bound in [(1.0, 0.0), (-1.0, math.log(100))]:
        tx = build_with_rate(rate)
        now, state = params, tx.init(params)
        for _ in range(6):
            updates, state = tx.update(jax.tree.map(jnp.ones_like, now), state, now)
            now = optax.apply_updates(now, updates)
            assert -1e-6 <= now["objective"]["log_inv_tau"] <= math.log(100) + 1e-6
        np.testing.assert_allclose(now["objective"]["log_inv_tau"], bound, atol=1e-6)
        np.testing.assert_allclose(now["objective"]["bias"], -9 - 6 * rate, rtol=1e-5)


def test_optimiser_needs_shapes_only():
    params = jax.tree.map(lambda _: jax.ShapeDtypeStruct((2, 3), jnp.float32), DECAYED)
    tx = build_with_rate(0.1)
    state = jax.eval_shape(tx.init, params)
    updates, after = jax.eval_shape(tx.update, params, state, params)
    assert updates == params
    assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize(
    "wrong", [{"weight_decay": -0.1}, {"grad_clip_norm": 0.0}, {"grad_clip_norm": -1.0}]
)
def test_optimiser_refuses(wrong):
    right = {"weight_decay": 0.1, "grad_clip_norm": None}
    with pytest.raises(UserError, match=next(iter(wrong))):
        optim.build(
            optax.constant_schedule(1), b1=0.9, b2=0.99, eps=1e-8, **right | wrong
        )


def test_ema_is_kept_in_float32():
    ema = {"kernel": jnp.ones(3, jnp.bfloat16)}
    params = {"kernel": jnp.full(3, 2, jnp.bfloat16)}
    update = jax.jit(optim.update_ema)
    for _ in range(100):
        ema = update(ema, params, 0.999)
    assert ema["kernel"].dtype == jnp.float32
    np.testing.assert_allclose(ema["kernel"], 2 - 0.999**100, rtol=1e-5)
