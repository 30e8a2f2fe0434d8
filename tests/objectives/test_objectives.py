"""Laws over all objectives, and float64 references written from the equations."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cloob_jax import objectives
from cloob_jax.errors import UserError
from cloob_jax.objectives import contrastive
from cloob_jax.objectives.pairwise import Plain

# The scalars of each objective, away from its defaults.
SCALARS = {
    "cloob": {"inv_tau": 20.0, "beta": 6.0},
    "clip": {"inv_tau": 12.0},
    "infoloob": {"inv_tau": 20.0},
    "hopfield_infonce": {"inv_tau": 15.0, "beta": 6.0},
    "siglip": {"inv_tau": 8.0, "bias": -3.0},
}
every_objective = pytest.mark.parametrize("name", objectives.NAMES)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(num_pairs=8, width=8, seed=0):
    """Pairs near each other; the sides differ, so that swapped anchors are seen.

    Most tests share this shape, so that each objective is compiled once.
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(num_pairs, width))
    texts = images + 0.7 * rng.normal(size=(num_pairs, width)) + 0.4
    return unit(images), unit(texts)


def float32(*arrays):
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays)


@functools.cache
def compiled(name):
    objective = objectives.build(name)
    gradient = jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)
    return jax.jit(gradient)


def value_and_gradients(name, images, texts, scalars):
    """The loss, and its gradients with respect to everything, in float32."""
    scalars = {key: jnp.float32(value) for key, value in scalars.items()}
    (loss, _), gradients = compiled(name)(*float32(images, texts), scalars)
    return loss, gradients


# --- References in float64, sums written out as in the papers -------------------------


def retrieve(stored, query, beta):
    weights = np.array([math.exp(beta * pattern @ query) for pattern in stored])
    pattern = (weights / weights.sum()) @ stored
    return pattern / np.linalg.norm(pattern)


def loob_side(anchor_rows, other_rows, inv_tau):
    """The mean over i of -ln exp(a_i.o_i / tau) / sum_(j != i) exp(a_i.o_j / tau)."""
    n = len(anchor_rows)
    total = 0.0
    for i in range(n):
        terms = [math.exp(inv_tau * anchor_rows[i] @ other_rows[j]) for j in range(n)]
        total -= math.log(terms[i] / sum(terms[:i] + terms[i + 1 :]))
    return total / n


def nce_side(anchor_rows, other_rows, inv_tau):
    n = len(anchor_rows)
    total = 0.0
    for i in range(n):
        terms = [math.exp(inv_tau * anchor_rows[i] @ other_rows[j]) for j in range(n)]
        total -= math.log(terms[i] / sum(terms))
    return total / n


def retrievals(x, y, beta):
    """U_x, U_y, V_y, V_x of CLOOB, eq. (2) and (3), normalised."""
    return (
        np.stack([retrieve(x, query, beta) for query in x]),
        np.stack([retrieve(x, query, beta) for query in y]),
        np.stack([retrieve(y, query, beta) for query in y]),
        np.stack([retrieve(y, query, beta) for query in x]),
    )


def reference(name, x, y, *, inv_tau, beta=None, bias=None):
    if name == "siglip":
        total = 0.0
        for i in range(len(x)):
            for j in range(len(y)):
                z = 1 if i == j else -1
                total += math.log1p(math.exp(-z * (inv_tau * x[i] @ y[j] + bias)))
        return total / len(x)
    sides = (x, y, y, x) if beta is None else retrievals(x, y, beta)
    if name in ("cloob", "infoloob"):
        eq_1 = loob_side(*sides[:2], inv_tau) + loob_side(*sides[2:], inv_tau)
        return eq_1 / inv_tau
    return (nce_side(*sides[:2], inv_tau) + nce_side(*sides[2:], inv_tau)) / 2


def slopes(function, array, step=1e-5):
    """Central differences of a scalar function by every entry of an array."""
    gradient = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        up, down = array.copy(), array.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


@every_objective
def test_loss_and_gradients_are_the_equations(name):
    x, y = embeddings()
    scalars = SCALARS[name]
    loss, (by_x, by_y, by_scalars) = value_and_gradients(name, x, y, scalars)
    expect = functools.partial(reference, name)
    near = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6)
    near(loss, expect(x, y, **scalars))
    near(by_x, slopes(lambda x: expect(x, y, **scalars), x))
    near(by_y, slopes(lambda y: expect(x, y, **scalars), y))
    for key, value in scalars.items():
        slope = slopes(
            lambda value, key=key: expect(x, y, **scalars | {key: float(value)}),
            np.array(value),
        )
        near(by_scalars[key], slope)


def test_cloob_converts_to_the_scale_of_cloob_training():
    # crowsonkb/cloob-training: both sides at full scale, their mean, the diagonal at
    # a large negative logit instead of a mask.
    x, y = embeddings()
    u_x, u_y, v_y, v_x = retrievals(x, y, 15.0)

    def side(anchors, others):
        logits = 30.0 * anchors @ others.T
        masked = np.where(np.eye(len(x)), -10000.0, logits)
        return np.log(np.exp(masked).sum(axis=1)).mean() - np.diag(logits).mean()

    theirs = (side(u_x, u_y) + side(v_y, v_x)) / 2
    ours, _ = value_and_gradients("cloob", x, y, {"inv_tau": 30.0, "beta": 15.0})
    np.testing.assert_allclose(theirs, 30.0 / 2 * ours, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "num_pairs"), [("cloob", 2), ("cloob", 512), ("infoloob", 512)]
)
def test_infoloob_of_equal_embeddings_is_2_tau_ln_of_the_negatives(name, num_pairs):
    equal = jnp.full((num_pairs, 4), 0.5)
    loss, _ = jax.jit(objectives.build(name, inv_tau=30.0))(equal, equal)
    expected = 2 * math.log(num_pairs - 1) / 30
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_infonce_gradient_is_infoloobs_times_one_minus_p():
    # CLOOB, section on saturation: the common factor (1 - p_i) of an anchor.
    anchors, others = float32(*embeddings())
    inv_tau = 10.0

    def loob(anchors):
        return contrastive.infoloob_side(anchors, others, Plain(), inv_tau)

    def nce(anchors):
        return contrastive.infonce_of(loob(anchors), inv_tau)

    by_loob, by_nce = (
        jax.jit(jax.grad(lambda a, of=side: jnp.mean(of(a))))(anchors)
        for side in (loob, nce)
    )
    by_loob *= inv_tau
    terms = np.exp(inv_tau * np.asarray(anchors) @ np.asarray(others).T)
    p = np.diag(terms) / terms.sum(axis=1)
    np.testing.assert_allclose(by_nce, (1 - p)[:, None] * by_loob, rtol=1e-4, atol=1e-6)


# --- Laws -----------------------------------------------------------------------------


X, Y, *_ = np.eye(8)
HARD_BATCHES = {
    "equal": (np.full((8, 8), 8**-0.5), np.full((8, 8), 8**-0.5)),
    "perfect": (np.eye(8), np.eye(8)),
    "opposite": (np.eye(8), -np.eye(8)),
    # What the texts retrieve from the images is the zero vector, and vice versa.
    "cancelling": (np.stack([X, -X] * 4), np.stack([Y, -Y] * 4)),
}


@every_objective
@pytest.mark.parametrize("batch", HARD_BATCHES)
@pytest.mark.parametrize("inv_tau", [1.0, 100.0])
def test_values_and_gradients_are_finite(name, batch, inv_tau):
    scalars = SCALARS[name] | {"inv_tau": inv_tau}
    results = value_and_gradients(name, *HARD_BATCHES[batch], scalars)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


@every_objective
def test_order_of_the_pairs_does_not_matter(name):
    x, y = embeddings()
    order = np.array([3, 0, 5, 1, 7, 4, 2, 6])
    loss, (by_x, by_y, _) = value_and_gradients(name, x, y, SCALARS[name])
    permuted = value_and_gradients(name, x[order], y[order], SCALARS[name])
    near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    near(permuted[0], loss)
    near(permuted[1][0], by_x[order])
    near(permuted[1][1], by_y[order])
    broken, _ = value_and_gradients(name, x, y[order], SCALARS[name])
    assert abs(broken - loss) > 1e-2


@every_objective
def test_batch_on_eight_devices_equals_one(name):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    x, y = embeddings()
    one = value_and_gradients(name, x, y, SCALARS[name])
    x, y = jax.device_put(float32(x, y), rows)
    eight = value_and_gradients(name, x, y, SCALARS[name])
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@every_objective
def test_a_million_pairs_overflow_no_integer(name):
    embeds = jax.ShapeDtypeStruct((2**20, 8), jnp.float32)
    loss, _ = jax.eval_shape(objectives.build(name), embeds, embeds)
    assert loss.shape == ()


@every_objective
def test_loss_and_metrics_are_float32_whatever_the_embeddings(name):
    narrow = jax.ShapeDtypeStruct((8, 8), jnp.bfloat16)
    results = jax.eval_shape(objectives.build(name), narrow, narrow)
    assert {leaf.dtype for leaf in jax.tree.leaves(results)} == {jnp.dtype("float32")}


def test_narrow_embeddings_are_widened_before_their_products():
    x, y = (array.astype(jnp.bfloat16) for array in float32(*embeddings()))
    widened = [np.asarray(array, np.float64) for array in (x, y)]
    loss, _ = objectives.build("clip", inv_tau=12.0)(x, y)
    expected = reference("clip", *widened, inv_tau=12.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


# --- Metrics and scalars --------------------------------------------------------------


@every_objective
def test_metrics_are_what_they_say(name):
    x, y = embeddings()
    scalars = {key: jnp.float32(value) for key, value in SCALARS[name].items()}
    (_, metrics), _ = compiled(name)(*float32(x, y), scalars)
    similarity = x @ y.T
    pairs = np.eye(len(x), dtype=bool)
    expected = {
        "inv_tau": SCALARS[name]["inv_tau"],
        "positive_similarity": similarity[pairs].mean(),
        "negative_similarity": similarity[~pairs].mean(),
    }
    if "beta" in SCALARS[name]:
        entropies = []
        for stored, queries in [(x, x), (x, y), (y, y), (y, x)]:
            weights = np.exp(SCALARS[name]["beta"] * queries @ stored.T)
            weights /= weights.sum(axis=1, keepdims=True)
            entropies.append(-(weights * np.log(weights)).sum(axis=1).mean())
        expected["retrieval_entropy"] = np.mean(entropies)
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-5, atol=1e-6)


def test_retrieval_entropy_is_that_of_all_or_of_one():
    x = jnp.eye(8)
    _, (of_all,) = Plain().retrieve(x, (x,), 1e-6)
    _, (of_one,) = Plain().retrieve(x, (x,), 1e3)
    np.testing.assert_allclose(of_all, math.log(8), rtol=1e-5)
    np.testing.assert_allclose(of_one, 0, atol=1e-6)


def test_defaults_are_the_published_ones():
    published = {
        "cloob": {"inv_tau": 30.0, "beta": 8.0},
        "clip": {"inv_tau": 1 / 0.07},
        "infoloob": {"inv_tau": 30.0},
        "hopfield_infonce": {"inv_tau": 30.0, "beta": 8.0},
        "siglip": {"inv_tau": 10.0, "bias": -10.0},
    }
    for name in objectives.NAMES:
        assert objectives.build(name).scalars == published[name]
    chosen = objectives.build("cloob", inv_tau=20.0, beta=15.0).scalars
    assert chosen == {"inv_tau": 20.0, "beta": 15.0}


@pytest.mark.parametrize(
    ("name", "learn", "keys"),
    [
        ("clip", None, {"log_inv_tau"}),
        ("clip", False, set()),
        ("siglip", None, {"log_inv_tau", "bias"}),
        ("siglip", False, {"bias"}),
        ("hopfield_infonce", None, set()),
        ("hopfield_infonce", True, {"log_inv_tau"}),
        ("cloob", None, set()),
        ("infoloob", False, set()),
    ],
)
def test_learned_scalars_start_at_the_built_in_values(name, learn, keys):
    learned = objectives.initial_scalars(name, inv_tau=12.0, learn_inv_tau=learn)
    assert learned.keys() == keys
    assert all(value.dtype == jnp.float32 for value in learned.values())
    built_in = objectives.build(name, inv_tau=12.0).scalars
    for key, value in objectives.to_scalars(learned).items():
        np.testing.assert_allclose(value, built_in[key], rtol=1e-6)


@pytest.mark.parametrize("name", ["cloob", "infoloob"])
def test_infoloob_always_pushes_inv_tau_up_and_may_not_learn_it(name):
    for seed in range(5):
        *_, (_, _, by_scalars) = value_and_gradients(
            name, *embeddings(seed=seed), SCALARS[name]
        )
        assert by_scalars["inv_tau"] < 0
    with pytest.raises(UserError, match="cannot learn inv_tau"):
        objectives.initial_scalars(name, learn_inv_tau=True)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: objectives.build("clob"), "'clob': did you mean cloob.*siglip"),
        (lambda: objectives.build("clip", form="plane"), "'plane': did you mean plain"),
        (lambda: objectives.build("clip", inv_tau=-1.0), "inv_tau=-1.0"),
        (lambda: objectives.build("clip", inv_tau=math.inf), "inv_tau=inf"),
        (lambda: objectives.build("cloob", beta=math.nan), "beta=nan"),
        (lambda: objectives.initial_scalars("clip", inv_tau=200.0), "1 to 100"),
        (lambda: objectives.build("cloob")(*[jnp.ones((1, 1))] * 2), "at least 2"),
        (lambda: objectives.build("infoloob")(*[jnp.ones((1, 1))] * 2), "at least 2"),
    ],
)
def test_mistakes_are_named(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()


def test_a_scalar_of_no_objective_is_an_error():
    x, y = float32(*embeddings())
    with pytest.raises(ValueError, match="log_inv_tau"):
        objectives.build("clip")(x, y, {"log_inv_tau": jnp.float32(1)})
