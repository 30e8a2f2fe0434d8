"""What a file of weights holds, whatever its format, and which named size it is."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from cloob_jax import models, objectives
from cloob_jax.errors import UserError
from cloob_jax.models.dual_encoder import CLOOB_TRAINING
from cloob_jax.weights import torch_file
from cloob_jax.weights.names import Naming


class Published(NamedTuple):
    """Weights as a format has them, and what they are in our words.

    Attributes:
      tensors: by the format's names, only those of the encoders.
      naming: where our arrays lie among them.
      config: `model`, `data` and `objective`, as the `config.json` of a run has them.
      scalars: the objective's learned ones, such as `log_inv_tau`.
    """

    tensors: dict[str, np.ndarray]
    naming: Naming
    config: dict[str, Any]
    scalars: dict[str, np.ndarray]


class Ours(NamedTuple):
    """Weights as a run has them.

    Attributes:
      config: as above.
      params: of the model, `visual` and `text` on top.
      batch_stats: running statistics; empty for a ViT.
      scalars: the objective's learned ones.
    """

    config: dict[str, Any]
    params: Any
    batch_stats: Any
    scalars: dict[str, np.ndarray]


class Dimensions(NamedTuple):
    """What the shapes of a state dict tell of a model; None where there is no such."""

    embed_dim: int
    vision_layers: tuple[int, ...]
    vision_width: int
    patch_size: int | None
    text_width: int
    text_layers: int


def read_tensors(path: Path) -> Any:
    """The tensors of a safetensors file or of one of PyTorch's, by their names.

    Raises:
      UserError: no such file, damaged, or with anything else in it.
    """
    if path.suffix != ".safetensors":
        return torch_file.read(path)
    try:
        return safetensors.numpy.load_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except Exception as error:  # the library has one class of its own for all
        raise UserError(f"{path}: damaged: {error}") from None


def dimensions(tensors: Mapping[str, np.ndarray]) -> Dimensions:
    """Those of tensors under OpenAI's names.

    Raises:
      UserError: the names are others.
    """
    if "visual.proj" in tensors:
        first = shape(tensors, "visual.conv1.weight", 4)
        vision_layers: tuple[int, ...] = (
            count(tensors, "visual.transformer.resblocks"),
        )
        vision_width, patch_size = first[0], first[-1]
    else:
        vision_width = shape(tensors, "visual.layer1.0.conv1.weight", 4)[0]
        stages = range(1, 5)
        vision_layers = tuple(count(tensors, f"visual.layer{n}") for n in stages)
        patch_size = None
    text_width, embed_dim = shape(tensors, "text_projection", 2)
    return Dimensions(
        embed_dim=embed_dim,
        vision_layers=vision_layers,
        vision_width=vision_width,
        patch_size=patch_size,
        text_width=text_width,
        text_layers=count(tensors, "transformer.resblocks"),
    )


def describe(
    found: Dimensions,
    *,
    num_positions: int,
    context_length: int,
    quick_gelu: bool,
    suffix: str = "",
) -> dict[str, Any]:
    """`model` and `data` of a config for a model of these dimensions.

    Args:
      found: the dimensions.
      num_positions: rows of the image encoder's positional embedding.
      context_length: rows of the text encoder's.
      quick_gelu: the activation, which no shape tells.
      suffix: of the name, for other encoders than CLIP's.

    Raises:
      UserError: no named size has these dimensions.
    """
    side = math.isqrt(num_positions - 1)
    image_size = side * (found.patch_size or 32)
    names = [
        name
        for name, size in models.SIZES.items()
        if found == tuple(getattr(size, field) for field in found._fields)
        and name + suffix in models.NAMES
    ]
    if not names or side * side != num_positions - 1:
        known = ", ".join(models.SIZES)
        told = ", ".join(f"{k} {v}" for k, v in found._asdict().items() if v)
        raise UserError(
            f"none of the named sizes ({known}) has {told} and {num_positions} "
            "positions of square images"
        )
    # ViT-L-14 and ViT-L-14-336 differ in nothing else.
    same = [name for name in names if models.SIZES[name].image_size == image_size]
    model = {
        "name": [*same, *names][0] + suffix,
        "quick_gelu": quick_gelu,
        "context_length": context_length,
    }
    return {"model": model, "data": {"image_size": image_size, "tokenizer": None}}


def shape(tensors: Mapping[str, np.ndarray], name: str, rank: int) -> tuple[int, ...]:
    """The shape of a tensor that has to be there.

    Raises:
      UserError: it is not, or has another rank.
    """
    if name not in tensors:
        kind = kind_of(tensors)
        meant = f"; by its names this is --from={kind}" if kind else ""
        raise UserError(f"there is no tensor {name}{meant}")
    if tensors[name].ndim != rank:
        found = tensors[name].shape
        raise UserError(f"{name} has shape {found}, expected {rank} dimensions")
    return tensors[name].shape


def count(tensors: Iterable[str], prefix: str) -> int:
    """How many numbered modules stand below a prefix."""
    expression = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({m.group(1) for m in map(expression.match, tensors) if m})


def kind_of(tensors: Iterable[str]) -> str | None:
    """The format to which names like these belong, or None."""
    tensors = {name.removeprefix("module.") for name in tensors}
    if {"state_dict", "params"} & tensors:
        return "cloob or open_clip" if "state_dict" in tensors else "cloob_training"
    if "vision_model.embeddings.class_embedding" in tensors:
        return "huggingface"
    if "logit_inv_tau" in tensors:
        return "cloob"
    if "visual.conv1.weight" in tensors:
        return "openai or open_clip"
    return None


def check_vocabulary(num_rows: int) -> None:
    """Refuses a token embedding that is not of CLIP's tokenizer."""
    expected = models.SIZES["RN50"].vocabulary_size
    if num_rows != expected:
        raise UserError(
            f"the token embedding has {num_rows} rows, CLIP's tokenizer {expected} "
            "tokens; weights of other tokenizers cannot be converted"
        )


def scalar(tensor: np.ndarray) -> np.ndarray:
    """A learned scalar, which some files hold as a vector of one.

    Raises:
      UserError: it is not one number.
    """
    if tensor.size != 1:
        raise UserError(f"logit_scale has shape {tensor.shape}, expected one number")
    if not abs(tensor.item()) < 20:
        raise UserError(f"logit_scale is {tensor.item()}, expected about 2 to 5")
    return tensor.reshape(()).astype(np.float32)


def scalars_of(ours: Ours) -> dict[str, np.ndarray]:
    """`log_inv_tau`, learned or not, and siglip's `bias`."""
    fixed = ours.config["objective"]
    built = objectives.build(fixed["name"], fixed.get("inv_tau")).scalars
    scalars = {"log_inv_tau": np.asarray(math.log(built["inv_tau"]), np.float32)}
    return scalars | {k: np.asarray(v, np.float32) for k, v in ours.scalars.items()}


def image_size_of(ours: Ours) -> int:
    """Pixels of a side."""
    size = models.SIZES[ours.config["model"]["name"]]
    return ours.config["data"].get("image_size") or size.image_size


def context_length_of(ours: Ours) -> int:
    """Tokens of a text."""
    return len(ours.params["text"]["positional_embedding"])


def check_exportable(ours: Ours, where: str) -> None:
    """Refuses encoders and tokenizers that other libraries do not have.

    Raises:
      UserError: says which.
    """
    name = ours.config["model"]["name"]
    if name.endswith(CLOOB_TRAINING):
        raise UserError(f"{where} has no encoders like those of {name}")
    if ours.config["data"].get("tokenizer"):
        raise UserError(
            f"the model reads the tokens of {ours.config['data']['tokenizer']}; only "
            f"those with CLIP's tokenizer are written for {where}"
        )


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
      UserError: no such file, or something else in it.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object")
    return content


def save_tensors(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Writes a safetensors file, of the kind that PyTorch's libraries expect.

    Raises:
      UserError: it could not be written.
    """
    try:
        safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    except Exception as error:  # the library has one class of its own for all
        raise UserError(f"{path}: cannot be written: {error}") from None
