"""Logistic regression on frozen features, and the search for its penalty.

The objective is that of scikit-learn's `LogisticRegression(C=c)`:

    c * sum of cross-entropies + |weights|^2 / 2,      the bias being free

It is minimised by L-BFGS on all local devices, each of which holds its share of the
rows. Neither moving nor rotating the features changes its minimum, so they are centred
and turned to their principal axes; along these the variables are scaled by the diagonal
of the Hessian at zero, which makes features of any scale as easy as white ones.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

_TOLERANCE = 1e-4


class Fit(NamedTuple):
    """A minimum of the objective.

    Attributes:
      weights: of the features as they were given.
      bias: of the classes.
      predictions: of every row that was placed, fitted or not.
      objective: see above, divided by c times the number of rows fitted.
      num_steps: of L-BFGS; where it is `max_steps`, this is not quite the minimum.
    """

    weights: Float[np.ndarray, "w classes"]
    bias: Float[np.ndarray, " classes"]
    predictions: Int[np.ndarray, " n"]
    objective: float
    num_steps: int

    def scores(
        self, features: Float[np.ndarray, "b w"]
    ) -> Float[np.ndarray, "b classes"]:
        """Logarithms of probabilities, but for a constant of each row."""
        return features @ self.weights + self.bias[None]


class LogisticRegression:
    """Labelled features on all local devices, to fit as often as one likes."""

    def __init__(
        self,
        features: Float[np.ndarray, "n w"],
        labels: Int[np.ndarray, " n"],
        max_steps: int = 1000,
    ):
        """Places the features.

        Args:
          features: of any scale.
          labels: from 0; as many classes as the highest says, two or more.
          max_steps: of L-BFGS.
        """
        self._size, self._num_classes = len(labels), int(labels.max()) + 1
        self._max_steps = max_steps
        mesh = Mesh(
            np.array(jax.local_devices()), ("rows",), axis_types=(AxisType.Auto,)
        )
        self._rows = NamedSharding(mesh, PartitionSpec("rows"))
        placed = self._place(np.asarray(features, np.float32))
        is_row = self._place(np.ones(len(labels), np.float32))
        mean, covariance = _moments(placed, is_row)
        _, axes = np.linalg.eigh(np.asarray(covariance, np.float64))
        self._mean, self._axes = np.asarray(mean, np.float64), axes
        turned = _turn(placed, is_row, mean, jnp.asarray(axes, jnp.float32))
        self._data = (*turned, self._place(labels.astype(np.int32)))

    def fit(self, c: float, rows: Bool[np.ndarray, " n"] | None = None) -> Fit:
        """Minimises the objective; all `c` and all `rows` share one compilation.

        Args:
          c: weight of the data against the penalty.
          rows: which are fitted; None: all.
        """
        rows = np.ones(self._size, bool) if rows is None else rows
        weights, bias, predictions, objective, num_steps = _fit(
            *self._data,
            self._place(rows.astype(np.float32)),
            jnp.float32(c * rows.sum()),
            num_classes=self._num_classes,
            max_steps=self._max_steps,
        )
        weights = self._axes @ np.asarray(weights, np.float64)
        return Fit(
            weights,
            np.asarray(bias[0], np.float64) - self._mean @ weights,
            np.asarray(predictions)[: self._size],
            float(objective),
            int(num_steps),
        )

    def _place(self, array: np.ndarray) -> Array:
        missing = -len(array) % self._rows.mesh.size
        padding = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
        return jax.device_put(np.pad(array, padding), self._rows)


_highest = functools.partial(jnp.matmul, precision="highest")


@jax.jit
def _moments(features: Array, is_row: Array) -> tuple[Array, Array]:
    count = is_row.sum()
    mean = is_row @ features / count
    centred = (features - mean[None]) * is_row[:, None]
    return mean, _highest(centred.T, centred) / count


@functools.partial(jax.jit, donate_argnums=0)
def _turn(
    features: Array, is_row: Array, mean: Array, axes: Array
) -> tuple[Array, Array]:
    turned = _highest((features - mean[None]) * is_row[:, None], axes)
    return turned, jnp.sum(turned**2, axis=0) / is_row.sum()


@functools.partial(jax.jit, static_argnames=("num_classes", "max_steps"))
def _fit(
    features: Float[Array, "n w"],
    variances: Float[Array, " w"],
    labels: Int[Array, " n"],
    is_fitted: Float[Array, " n"],
    strength: Float[Array, ""],
    num_classes: int,
    max_steps: int,
):
    # Two classes are one column to scikit-learn; as two columns of opposite signs the
    # same function has half its penalty.
    penalty = (2 if num_classes == 2 else 1) / strength
    scale = jax.lax.rsqrt(variances / num_classes + penalty)[:, None]
    is_label = jax.nn.one_hot(labels, num_classes, dtype=bool)

    def unscale(variables):
        weights, bias = variables
        return scale * weights, num_classes**0.5 * bias

    def objective(variables):
        weights, bias = unscale(variables)
        logits = _highest(features, weights) + bias
        own = jnp.sum(logits, axis=1, where=is_label, keepdims=True)
        # Not -log_softmax, whose rounding hides what is left of the loss once classes
        # are separated.
        others = jax.nn.logsumexp(jnp.where(is_label, -jnp.inf, logits - own), axis=1)
        losses = jax.nn.softplus(others) * is_fitted
        return losses.sum() / is_fitted.sum() + penalty / 2 * jnp.sum(weights**2)

    start = jnp.zeros((features.shape[1], num_classes)), jnp.zeros((1, num_classes))
    variables, value, num_steps = _minimise(objective, start, max_steps)
    weights, bias = unscale(variables)
    predictions = jnp.argmax(_highest(features, weights) + bias, axis=1)
    return weights, bias, predictions, value, num_steps


def _minimise(objective, start, max_steps):
    """L-BFGS with a zoom line search, until the gradient is small for the value.

    In variables whose Hessian is about one, the gradient is as long as the step that is
    missing; `_TOLERANCE` is what it may be of the value, which the Hessian follows down
    once classes are separated, and of the step from the start where that is short.
    """
    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def goes_on(carry):
        variables, state, count = carry
        found = state[-1]
        length = jnp.minimum(1, optax.tree.norm(variables))
        is_long = optax.tree.norm(found.grad) > _TOLERANCE * found.value * length
        return (count == 0) | ((count < max_steps) & is_long)

    def step(carry):
        variables, state, count = carry
        value, grad = value_and_grad(variables, state=state)
        updates, state = solver.update(
            grad, state, variables, value=value, grad=grad, value_fn=objective
        )
        return optax.apply_updates(variables, updates), state, count + 1

    carry = start, solver.init(start), jnp.int32(0)
    variables, state, count = jax.lax.while_loop(goes_on, step, carry)
    return variables, state[-1].value, count


MOST = 15  # fits of a sweep


def sweep(validate: Callable[[float], float]) -> tuple[float, float]:
    """Finds a good `c` as Radford et al. 2021, App. A.3 do, in `MOST` fits or fewer.

    Their lambda is 1 / c here; both run from 1e-6 to 1e6 in 96 steps, 8 to a decade. It
    starts on every second decade and halves the interval around the peak until the
    steps are the finest. Of equals the smallest c wins, the strongest penalty.

    Args:
      validate: c -> accuracy on the validation split.

    Returns:
      c, and its accuracy.
    """
    found: dict[int, float] = {}
    candidates: tuple[int, ...] = tuple(range(0, 97, 16))
    for span in (8, 4, 2, 1, 0):
        for step in set(candidates) & set(range(97)) - set(found):
            found[step] = validate(10 ** (step / 8 - 6))
        peak = max(found, key=lambda step: (found[step], -step))
        candidates = (peak - span, peak + span)
    return 10 ** (peak / 8 - 6), found[peak]
