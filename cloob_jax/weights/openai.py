"""Weights of OpenAI and of the CLOOB authors, and what open_clip shares with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.errors import UserError
from cloob_jax.weights import names, published, torch_file
from cloob_jax.weights.published import Published

# Beside the parameters: counters of batches, masks, and what OpenAI's archives say of
# themselves.
_NOT_WEIGHTS = ("num_batches_tracked", "attn_mask")
_NUMBERS = ("input_resolution", "context_length", "vocab_size")


def read_openai(path: Path) -> Published:
    """A TorchScript archive of OpenAI's, or a state dict of one.

    Raises:
      UserError: not one, by the first thing that does not fit.
    """
    is_open_clip = path.name.startswith("open_clip")
    if is_open_clip or (path.parent / "open_clip_config.json").exists():
        why = "by its name" if is_open_clip else "open_clip_config.json lies beside it"
        raise UserError(f"{path}: {why}: give --from=open_clip")
    content = torch_file.read(path)
    tensors = state_dict(content, path, nested=False)
    tensors = {name: tensors[name] for name in tensors if name not in _NUMBERS}
    if "logit_scale" not in tensors:
        kind = published.kind_of(tensors) or "another format"
        raise UserError(f"{path}: there is no tensor logit_scale; is it {kind}?")
    log_inv_tau = published.scalar(tensors.pop("logit_scale"))
    objective = {
        "name": "clip",
        "inv_tau": float(np.exp(log_inv_tau)),
        "learn_inv_tau": True,
    }
    config = describe(tensors, quick_gelu=True) | {"objective": objective}
    return Published(tensors, names.openai, config, {"log_inv_tau": log_inv_tau})


def read_cloob(path: Path) -> Published:
    """A checkpoint of github.com/ml-jku/cloob.

    Raises:
      UserError: not one, by the first thing that does not fit.
    """
    tensors = state_dict(torch_file.read(path), path, nested=True)
    if "logit_inv_tau" not in tensors:
        kind = published.kind_of(tensors) or "another format"
        raise UserError(f"{path}: there is no tensor logit_inv_tau; is it {kind}?")
    objective = {
        "name": "cloob",
        "inv_tau": _exp(tensors.pop("logit_inv_tau")),
        "learn_inv_tau": False,
    }
    if "logit_scale_hopfield" in tensors:
        objective["beta"] = _exp(tensors.pop("logit_scale_hopfield"))
    config = describe(tensors, quick_gelu=True) | {"objective": objective}
    return Published(tensors, names.openai, config, {})


def _exp(tensor: np.ndarray) -> float:
    return float(np.exp(np.float64(published.scalar(tensor))))


def state_dict(content: Any, path: Path, *, nested: bool) -> dict[str, np.ndarray]:
    """The tensors of a file: a state dict, a training state around one, a module.

    Args:
      content: of the file.
      path: for the message.
      nested: whether a training state with a `state_dict` is accepted.

    Raises:
      UserError: there is none.
    """
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        if not nested:
            raise UserError(
                f"{path}: a training checkpoint with a state_dict, not OpenAI's; "
                "is it --from=cloob or --from=open_clip?"
            )
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict")
    tensors = dict(torch_file.flatten(content))
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    # What DistributedDataParallel and torch.compile put in front, in any order.
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] not in _NOT_WEIGHTS
    }


def describe(tensors: Mapping[str, np.ndarray], *, quick_gelu: bool) -> dict[str, Any]:
    """`model` and `data` of a config, from tensors under OpenAI's names.

    Raises:
      UserError: the names are others, or no named size has these shapes.
    """
    found = published.dimensions(tensors)
    published.check_vocabulary(published.shape(tensors, "token_embedding.weight", 2)[0])
    pool = "" if found.patch_size else "attnpool."
    positions = published.shape(tensors, f"visual.{pool}positional_embedding", 2)
    context = published.shape(tensors, "positional_embedding", 2)
    return published.describe(
        found,
        num_positions=positions[0],
        context_length=context[0],
        quick_gelu=quick_gelu,
    )
