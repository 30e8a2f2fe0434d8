"""From a config's `model` and `data` to the encoders and their tokenizer."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cloob_jax import models, sharding
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import Tokenizer
from cloob_jax.tokenizer_file import FileTokenizer

_DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}
_ATTENTION = ("auto", "xla", "cudnn")


def build(
    config: ConfigDict, mesh: Mesh | None = None
) -> tuple[models.DualEncoder, Tokenizer]:
    """Makes the model and the tokenizer that a config describes.

    Args:
      config: with its `model` and `data`.
      mesh: whose devices the examples and the parameters of a step are split over;
        None: the compiler decides where activations lie.

    A field that is lacking, in the config of converted weights or of an older run, has
    the value that leaves the parameters' shapes alone.

    Raises:
      UserError: an unknown name, size or type, or a tokenizer that cannot be used.
    """
    model, data = config["model"], config["data"]
    path = data.get("tokenizer")
    tokens = Tokenizer() if path is None else FileTokenizer(path=path)
    dtype = _one_of(_DTYPES, model, "dtype", "bfloat16")
    encoders = models.build(
        model["name"],
        image_size=data.get("image_size"),
        context_length=model.get("context_length"),
        vocabulary_size=tokens.vocabulary_size,
        end_id=tokens.end_id,
        quick_gelu=model.get("quick_gelu", True),
        # Of the batch, of which the encoders see a part at a time.
        bn_groups=max(
            model.get("bn_groups", 1) // config.get("accumulate_steps", 1), 1
        ),
        compute=models.Compute(
            dtype=_DTYPES[dtype],
            remat=_one_of(models.REMAT_POLICIES, model, "remat", "none"),
            scan_layers=model.get("scan_layers", True),
            attention=_attention(
                _one_of(_ATTENTION, model, "attention", "auto"), dtype
            ),
            **({} if mesh is None else sharding.placing(mesh)),
        ),
    )
    tokens = dataclasses.replace(tokens, context_length=encoders.context_length)
    return encoders, tokens


@functools.cache  # tracing takes a second, and a conversion asks several times
def abstract_variables(encoders: models.DualEncoder) -> Any:
    """The shapes of `params` and, for a residual network, `batch_stats`."""
    size = encoders.image_size
    return jax.eval_shape(
        functools.partial(encoders.init, jax.random.key(0)),
        jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),
        jax.ShapeDtypeStruct((1, encoders.context_length), jnp.int32),
    )


def _one_of(known: Any, model: ConfigDict, field: str, default: str) -> str:
    value = model.get(field, default)
    if value not in known:
        raise UserError(
            f"config.model.{field}={value}: expected one of {', '.join(known)}"
        )
    return value


@functools.cache
def _attention(wanted: str, dtype: str) -> Literal["xla", "cudnn"]:
    """What computes the attention of the transformers on the devices that there are.

    Raises:
      UserError: cuDNN is asked for, and does not work here.
    """
    if wanted == "xla" or (wanted == "auto" and jax.default_backend() != "gpu"):
        return "xla"
    x = jax.ShapeDtypeStruct((1, 77, 1, models.HEAD_WIDTH), _DTYPES[dtype])

    def total(queries, keys, values):
        attended = jax.nn.dot_product_attention(
            queries, keys, values, is_causal=True, implementation="cudnn"
        )
        return jnp.sum(attended.astype(jnp.float32))

    try:
        jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(x, x, x).compile()
    except Exception as error:  # every device and version says no in its own way
        if wanted == "auto":
            return "xla"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"config.model.attention=cudnn does not work here with {dtype}: {reason}; "
            "set it to auto or xla"
        ) from None
    return "cudnn"
