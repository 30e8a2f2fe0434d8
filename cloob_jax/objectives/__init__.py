"""Contrastive objectives as pure functions of two sides of embeddings.

`build` gives an objective by name. Each knows its own scale, stated in the docstring of
its function: losses of different objectives are not to be compared with one another.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from cloob_jax.errors import UserError
from cloob_jax.objectives import contrastive, hopfield
from cloob_jax.objectives.contrastive import Metrics, Scalar


class _Definition(NamedTuple):
    """An objective's default scalars, and whether inv_tau is learned by default.

    `learns_inv_tau` is None where learning it is refused.
    """

    scalars: Mapping[str, float]
    learns_inv_tau: bool | None


_DEFINITIONS = {
    "cloob": _Definition({"inv_tau": 30.0, "beta": 8.0}, learns_inv_tau=None),
    "clip": _Definition({"inv_tau": 1 / 0.07}, learns_inv_tau=True),
    "infoloob": _Definition({"inv_tau": 30.0}, learns_inv_tau=None),
    "hopfield_infonce": _Definition({"inv_tau": 30.0, "beta": 8.0}, False),
    "siglip": _Definition({"inv_tau": 10.0, "bias": -10.0}, learns_inv_tau=True),
}

_FORMS: Mapping[str, Mapping[str, Callable[..., tuple[Array, Metrics]]]] = {
    "plain": {
        "cloob": hopfield.cloob,
        "clip": contrastive.clip,
        "infoloob": contrastive.infoloob,
        "hopfield_infonce": hopfield.hopfield_infonce,
        "siglip": contrastive.siglip,
    },
}

NAMES = tuple(_DEFINITIONS)

# A learned inv_tau stays within these bounds, as CLIP's (Radford et al. 2021, 2.5).
_LEARNED_INV_TAU_RANGE = (1.0, 100.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """An objective with the values of its scalars, as `build` makes it.

    Attributes:
      name: one of `NAMES`.
      form: how it is computed; the value does not depend on it.
      scalars: the built-in value of each scalar that the objective has: all `inv_tau`,
        those with retrieval `beta`, siglip `bias`.
    """

    name: str
    form: str
    scalars: Mapping[str, float]

    def __call__(
        self,
        image_embeds: Float[Array, "b d"],
        text_embeds: Float[Array, "b d"],
        scalars: Mapping[str, Scalar] | None = None,
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the loss of a batch of pairs, and metrics; differentiable in all.

        Args:
          image_embeds: L2-normalised, float32; narrower floats are widened.
          text_embeds: the same; row i belongs to row i of the images.
          scalars: values, traced ones for instance, that take the place of the built-in
            ones; names that the objective does not have are of no effect.

        Returns:
          The loss, at the scale that the objective's function documents, and float32
          scalars: `inv_tau`, `positive_similarity` and `negative_similarity` (means
          over pairs and over negatives of the embeddings' inner products; 0 where there
          are no negatives), and after retrieval `retrieval_entropy` (mean entropy of
          the retrieval weights in nats; its exponential is the effective number of
          patterns retrieved).

        Raises:
          UserError: if the objective needs negatives and the batch is a single pair.
          ValueError: if a name in `scalars` is no objective's.
        """
        given = {} if scalars is None else dict(scalars)
        unknown = sorted(given.keys() - {"inv_tau", "beta", "bias"})
        if unknown:
            raise ValueError(f"no objective has the scalars {unknown}")
        own = {key: given.get(key, value) for key, value in self.scalars.items()}
        image_embeds, text_embeds = _widen(image_embeds), _widen(text_embeds)
        loss, metrics = _FORMS[self.form][self.name](image_embeds, text_embeds, **own)
        metrics |= _similarity_metrics(image_embeds, text_embeds)
        metrics["inv_tau"] = jnp.asarray(own["inv_tau"])
        return loss, {key: value.astype(jnp.float32) for key, value in metrics.items()}


def build(
    name: str,
    inv_tau: float | None = None,
    beta: float | None = None,
    form: str = "plain",
) -> Objective:
    """Returns an objective by name.

    Args:
      name: `cloob`, `clip`, `infoloob` (no retrieval), `hopfield_infonce` (retrieval,
        then InfoNCE) or `siglip`.
      inv_tau: inverse temperature; None is the objective's own: 30 for the three of the
        CLOOB family, 1/0.07 for clip, 10 for siglip (whose bias is -10).
      beta: scaling of the Hopfield retrieval; None is 8, the authors' for CC3M.
        Objectives without retrieval do not use it.
      form: `plain` holds the whole N x N similarity matrices.

    Raises:
      UserError: if the name or the form is unknown, or a scalar not positive.
    """
    _check_known("objective", name, NAMES)
    _check_known("objective form", form, _FORMS)
    scalars = dict(_DEFINITIONS[name].scalars)
    for field, value in (("inv_tau", inv_tau), ("beta", beta)):
        if value is None:
            continue
        if not 0 < value < math.inf:
            raise UserError(
                f"objective.{field}={value}: expected a positive number, or None for "
                "the objective's own"
            )
        if field in scalars:
            scalars[field] = float(value)
    return Objective(name, form, scalars)


def initial_scalars(
    name: str, inv_tau: float | None = None, learn_inv_tau: bool | None = None
) -> dict[str, Float[Array, ""]]:
    """Returns the scalars that an objective learns, as they are at the start.

    They are parameters in the space that they are optimised in: `log_inv_tau` and, for
    siglip, `bias`. `to_scalars` turns them into an objective's scalars.

    Args:
      name: as for `build`.
      inv_tau: its value at the start; None is the objective's own.
      learn_inv_tau: None is the objective's own: true for clip and siglip.

    Raises:
      UserError: if an InfoLOOB objective is to learn inv_tau. The positives do not
        depend on tau, and the derivative of tau logsumexp(s / tau) by tau is the
        entropy of softmax(s / tau), never negative: descent shrinks tau to its bound,
        whatever the data. Without the factor tau the loss has no lower bound at all.
        Also if a learned inv_tau starts outside of 1 to 100, where it is kept.
    """
    start = build(name, inv_tau).scalars
    learn_by_default = _DEFINITIONS[name].learns_inv_tau
    if learn_inv_tau and learn_by_default is None:
        raise UserError(
            f"objective {name!r} cannot learn inv_tau: InfoLOOB always falls as "
            "inv_tau grows, whatever the data; set objective.learn_inv_tau=False"
        )
    learned = {"bias": start["bias"]} if "bias" in start else {}
    if learn_by_default if learn_inv_tau is None else learn_inv_tau:
        low, high = _LEARNED_INV_TAU_RANGE
        if not low <= start["inv_tau"] <= high:
            raise UserError(
                f"objective.inv_tau={inv_tau}: expected {low:g} to {high:g}, where a "
                "learned one is kept; or set objective.learn_inv_tau=False"
            )
        learned["log_inv_tau"] = math.log(start["inv_tau"])
    return {key: jnp.asarray(value, jnp.float32) for key, value in learned.items()}


def to_scalars(
    learned: Mapping[str, Float[Array, ""]],
) -> dict[str, Float[Array, ""]]:
    """Turns learned scalars (see `initial_scalars`) into an objective's `scalars`."""
    scalars = dict(learned)
    if "log_inv_tau" in scalars:
        scalars["inv_tau"] = jnp.exp(scalars.pop("log_inv_tau"))
    return scalars


def _similarity_metrics(
    image_embeds: Float[Array, "b d"], text_embeds: Float[Array, "b d"]
) -> dict[str, Float[Array, ""]]:
    num_pairs = len(image_embeds)
    positives = jnp.sum(contrastive.pair_similarities(image_embeds, text_embeds))
    # The sum over all pairs of rows is the inner product of the sums: no N x N matrix.
    everything = jnp.sum(jnp.sum(image_embeds, axis=0) * jnp.sum(text_embeds, axis=0))
    return {
        "positive_similarity": positives / num_pairs,
        "negative_similarity": (everything - positives)
        / float(max(num_pairs * (num_pairs - 1), 1)),
    }


def _widen(embeds: Float[Array, "b d"]) -> Float[Array, "b d"]:
    return embeds.astype(jnp.promote_types(embeds.dtype, jnp.float32))


def _check_known(kind: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        [nearest] = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise UserError(
            f"unknown {kind} {name!r}: did you mean {nearest}? "
            f"choose one of {', '.join(known)}"
        )
