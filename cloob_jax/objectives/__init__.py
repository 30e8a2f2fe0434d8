"""Contrastive objectives as pure functions of two sides of embeddings.

`build` gives an objective by name. Each knows its own scale, stated in the docstring of
its function: losses of different objectives are not to be compared with one another.
"""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from cloob_jax.errors import UserError
from cloob_jax.objectives import contrastive, hopfield
from cloob_jax.objectives.blockwise import Blockwise
from cloob_jax.objectives.contrastive import Metrics
from cloob_jax.objectives.pairwise import Pairwise, Plain, Scalar


class _Definition(NamedTuple):
    """An objective's function and default scalars, and whether it learns inv_tau.

    `learns_inv_tau` is by default, and None where learning it is refused.
    """

    function: Callable[..., tuple[Array, Metrics]]
    scalars: Mapping[str, float]
    learns_inv_tau: bool | None


_DEFINITIONS = {
    "cloob": _Definition(hopfield.cloob, {"inv_tau": 30.0, "beta": 8.0}, None),
    "clip": _Definition(contrastive.clip, {"inv_tau": 1 / 0.07}, True),
    "infoloob": _Definition(contrastive.infoloob, {"inv_tau": 30.0}, None),
    "hopfield_infonce": _Definition(
        hopfield.hopfield_infonce, {"inv_tau": 30.0, "beta": 8.0}, False
    ),
    "siglip": _Definition(contrastive.siglip, {"inv_tau": 10.0, "bias": -10.0}, True),
}

NAMES = tuple(_DEFINITIONS)
FORMS = ("plain", "gather", "ring", "auto")

# Those that leave a pair out of its own sum, as InfoLOOB does.
_WITHOUT_THE_PAIR = ("cloob", "infoloob")

# What `auto` accepts of one N x N matrix a device, and of the columns gathered on each.
_PLAIN_BYTES = 2**22
_GATHERED_BYTES = 2**28

# A learned inv_tau stays within these bounds, as CLIP's (Radford et al. 2021, 2.5).
_LEARNED_INV_TAU_RANGE = (1.0, 100.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """An objective with the values of its scalars, as `build` makes it.

    Attributes:
      name: one of `NAMES`.
      form: how it is computed, one of `FORMS`; the value does not depend on it.
      scalars: the built-in value of each scalar that the objective has: all `inv_tau`,
        those with retrieval `beta`, siglip `bias`.
      mesh: over all of whose devices the pairs are split; None: one device.
      block_size: columns at a time in the forms that take blocks; None: by the memory.
    """

    name: str
    form: str
    scalars: Mapping[str, float]
    mesh: Mesh | None = None
    block_size: int | None = None

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
          UserError: if the objective needs negatives and the batch is a single pair, or
            if a form in blocks cannot split the batch evenly over the mesh.
          ValueError: if a name in `scalars` is no objective's.
        """
        given = {} if scalars is None else dict(scalars)
        unknown = sorted(given.keys() - {"inv_tau", "beta", "bias"})
        if unknown:
            raise ValueError(f"no objective has the scalars {unknown}")
        image_embeds, text_embeds = _widen(image_embeds), _widen(text_embeds)
        own = {
            key: jnp.asarray(given.get(key, value), image_embeds.dtype)
            for key, value in self.scalars.items()
        }
        num_pairs, width = image_embeds.shape
        if num_pairs < 2 and self.name in _WITHOUT_THE_PAIR:
            raise UserError(
                f"{self.name} needs a batch of at least 2 pairs, for each pair's "
                f"negatives are the others, but got {num_pairs}; raise batch_size"
            )
        compute = self._compute_in(self.form_for(num_pairs, width), num_pairs)
        loss, metrics = compute(image_embeds, text_embeds, own)
        metrics["inv_tau"] = own["inv_tau"]
        return loss, {key: value.astype(jnp.float32) for key, value in metrics.items()}

    def form_for(self, num_pairs: int, width: int) -> str:
        """The form that computes a batch `[num_pairs, width]`: what `auto` picks.

        Raises:
          UserError: if a form in blocks cannot split the batch evenly over the mesh.
        """
        num_devices = 1 if self.mesh is None else self.mesh.size
        divides = num_pairs % num_devices == 0
        if self.form == "auto":
            if not divides or 4 * num_pairs**2 / num_devices <= _PLAIN_BYTES:
                return "plain"
            return "gather" if 4 * num_pairs * width <= _GATHERED_BYTES else "ring"
        if self.form != "plain" and not divides:
            raise UserError(
                f"objective.form={self.form} splits the batch over all {num_devices} "
                f"devices, which {num_pairs} pairs do not divide over; choose a "
                "multiple, or objective.form=plain"
            )
        return self.form

    def _compute(
        self,
        over: Pairwise,
        num_pairs: int,
        image_embeds: Float[Array, "b d"],
        text_embeds: Float[Array, "b d"],
        scalars: Mapping[str, Float[Array, ""]],
    ) -> tuple[Float[Array, ""], Metrics]:
        """On rows that are all pairs, or this device's part of `num_pairs`."""
        function = _DEFINITIONS[self.name].function
        loss, metrics = function(image_embeds, text_embeds, over, num_pairs, **scalars)
        return loss, metrics | contrastive.similarity_metrics(
            image_embeds, text_embeds, over, num_pairs
        )

    def _compute_in(self, form: str, num_pairs: int) -> Callable:
        mesh = self.mesh
        if form == "plain":
            return functools.partial(self._compute, Plain(), num_pairs)
        if mesh is None or mesh.size == 1:
            over = Blockwise(form, block_size=self.block_size)
            return functools.partial(self._compute, over, num_pairs)
        over = Blockwise(form, mesh.axis_names, self.block_size)

        def compute(image_embeds: Array, text_embeds: Array, scalars: Mapping) -> tuple:
            own = {key: over.varying(value) for key, value in scalars.items()}
            return self._compute(over, num_pairs, image_embeds, text_embeds, own)

        rows, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        return jax.shard_map(
            compute, mesh=mesh, in_specs=(rows, rows, whole), out_specs=whole
        )


def build(
    name: str,
    inv_tau: float | None = None,
    beta: float | None = None,
    form: str = "plain",
    mesh: Mesh | None = None,
    block_size: int | None = None,
) -> Objective:
    """Returns an objective by name.

    Args:
      name: `cloob`, `clip`, `infoloob` (no retrieval), `hopfield_infonce` (retrieval,
        then InfoNCE) or `siglip`.
      inv_tau: inverse temperature; None is the objective's own: 30 for the three of the
        CLOOB family, 1/0.07 for clip, 10 for siglip (whose bias is -10).
      beta: scaling of the Hopfield retrieval; None is 8, the authors' for CC3M.
        Objectives without retrieval do not use it.
      form: `plain` holds whole N x N matrices; `gather` and `ring` blocks of them, see
        `passage`: after an all-gather, in memory that grows with N x D, or with the
        columns going round, with N x D / devices. `auto` takes the first of the three
        whose memory is small.
      mesh: over all of whose devices the forms in blocks split the pairs, which they
        have to divide; None: one device.
      block_size: columns at a time; None: by the memory.

    Raises:
      UserError: if the name or the form is unknown, or a scalar not positive.
    """
    _check_known("objective", name, NAMES)
    _check_known("objective form", form, FORMS)
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
    return Objective(name, form, scalars, mesh, block_size)


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
