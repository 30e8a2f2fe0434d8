"""Weights of github.com/crowsonkb/cloob-training: a pickle of haiku's parameters.

Its encoders differ from CLIP's (see `models/cloob_training.py`), so that these weights
can be evaluated here and go nowhere else.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax.errors import UserError
from cloob_jax.models.dual_encoder import CLOOB_TRAINING
from cloob_jax.weights import haiku_file, published
from cloob_jax.weights.names import Place
from cloob_jax.weights.published import Dimensions, Published

_TOWERS = {"visual": "vi_t_image_encoder", "text": "text_encoder"}
_ATTENTION = "self_attention/multi_head_attention"
_WORDS = {
    "attention/key": f"{_ATTENTION}/key",
    "attention/out": f"{_ATTENTION}/linear",
    "attention/query": f"{_ATTENTION}/query",
    "attention/value": f"{_ATTENTION}/value",
    "ln_1": "self_attention/layer_norm",
    "ln_2": "feed_forward/layer_norm",
    "mlp/fc": "feed_forward/linear_0",
    "mlp/proj": "feed_forward/linear_1",
    "patch_embedding": "embed",
    "projection": "proj",
    "token_embedding": "embed",
}
_LEAVES = {"embedding": "embeddings", "kernel": "w"}
# The published runs' objective (its `pretrained_configs/*.json`).
_OBJECTIVE = {"name": "cloob", "inv_tau": 30.0, "beta": 15.0, "learn_inv_tau": False}


def naming(path: tuple[str, ...], rank: int) -> Place:
    """Haiku's names: `text_encoder/layer_3/feed_forward/linear_0/w`, axes as ours."""
    tower, *modules, leaf = path
    prefix = _TOWERS[tower]
    axes = tuple(range(rank))
    if leaf == "class_embedding":
        return Place(f"{prefix}/class_embed", axes)
    if leaf == "positional_embedding":
        return Place(f"{prefix}/pos_embed/w", axes)
    if modules[0] == "transformer":
        prefix += f"/{modules[1].replace('block', 'layer')}"
        modules = modules[2:]
    module = _WORDS["/".join(modules)]
    is_norm = module.endswith("layer_norm")
    short = {"bias": "offset" if is_norm else "b"}
    leaf = short.get(leaf, _LEAVES.get(leaf, leaf))
    return Place(f"{prefix}/{module}/{leaf}", axes)


def read(path: Path) -> Published:
    """A checkpoint of its `train.py`, or a slim one.

    Raises:
      UserError: not one, by the first thing that does not fit.
    """
    content = haiku_file.read(path)
    params = content.get("params") if isinstance(content, dict) else None
    towers = params if isinstance(params, list) else []
    if len(towers) != 2 or not all(isinstance(tower, dict) for tower in towers):
        raise UserError(
            f"{path}: holds no `params` of two encoders, as cloob-training saves them"
        )
    tensors = {
        f"{module}/{name}": array
        for tower in towers
        for module, arrays in tower.items()
        for name, array in _items(arrays, module, path)
    }
    patches = published.shape(tensors, "vi_t_image_encoder/embed/w", 4)
    text_width = published.shape(tensors, "text_encoder/embed/embeddings", 2)
    published.check_vocabulary(text_width[0])
    found = Dimensions(
        embed_dim=published.shape(tensors, "text_encoder/proj/w", 2)[1],
        vision_layers=(_count(tensors, "vi_t_image_encoder"),),
        vision_width=patches[3],
        patch_size=patches[0],
        text_width=text_width[1],
        text_layers=_count(tensors, "text_encoder"),
    )
    positions = published.shape(tensors, "vi_t_image_encoder/pos_embed/w", 2)
    config = published.describe(
        found,
        num_positions=positions[0],
        context_length=published.shape(tensors, "text_encoder/pos_embed/w", 2)[0],
        quick_gelu=False,
        suffix=CLOOB_TRAINING,
    )
    return Published(tensors, naming, config | {"objective": dict(_OBJECTIVE)}, {})


def _items(arrays: Any, module: str, path: Path) -> Any:
    if not isinstance(arrays, dict):
        raise UserError(f"{path}: {module} is no module of haiku's")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UserError(f"{path}: {module}/{name} is no array")
    return arrays.items()


def _count(tensors: dict[str, np.ndarray], tower: str) -> int:
    expression = re.compile(tower + r"/layer_(\d+)/")
    return len({m.group(1) for m in map(expression.match, tensors) if m})
