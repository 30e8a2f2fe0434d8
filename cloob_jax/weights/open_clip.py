"""Weights of open_clip, both ways, with the `open_clip_config.json` beside them.

Source of the config's fields and defaults: `CLIPVisionCfg` and `CLIPTextCfg` in
`open_clip/model.py`, github.com/mlfoundations/open_clip.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax import models, step, writers
from cloob_jax.errors import UserError
from cloob_jax.weights import names, openai, published
from cloob_jax.weights.published import Ours, Published

CONFIG = "open_clip_config.json"
# In the order in which open_clip prefers them.
_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# What our encoders do, by open_clip's fields: any other value, or a field that is not
# here and not empty, would change the embeddings. `...`: the shapes tell, or nothing
# depends on it.
_VISION = {
    "image_size": ...,
    "layers": ...,
    "width": ...,
    "patch_size": ...,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_dropout": ...,  # of the training alone
    "attn_pooler_queries": ...,
    "attn_pooler_heads": ...,
    "pos_embed_type": "learnable",
    "pool_type": "tok",
    "timm_pool": ...,
    "timm_proj": ...,
}
_TEXT = {
    "context_length": ...,
    "vocab_size": ...,
    "width": ...,
    "heads": ...,
    "layers": ...,
    "mlp_ratio": 4.0,
    "pad_id": ...,
    "eos_id": ...,
    "pool_type": "argmax",
    "proj_type": "linear",
    "hf_model_pretrained": ...,
    "hf_proj_type": ...,
    "hf_pooler_type": ...,
}
_MODEL = {
    "embed_dim": ...,
    "vision_cfg": ...,
    "text_cfg": ...,
    "quick_gelu": ...,
    "init_logit_scale": ...,
    "init_logit_bias": ...,
}
_PREPROCESS = {
    "mean": list(step.MEAN),
    "std": list(step.STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def read(path: Path) -> Published:
    """A folder of open_clip's, or its file of weights with the config beside it.

    Raises:
      UserError: something lacks, is damaged, or of a kind that these encoders are not.
    """
    file = _weights_file(path) if path.is_dir() else path
    config = _read_config(file.parent / CONFIG)
    model = config["model_cfg"]
    tensors = openai.state_dict(published.read_tensors(file), file, nested=True)
    if "logit_scale" not in tensors:
        raise UserError(f"{file}: there is no tensor logit_scale")
    described = openai.describe(tensors, quick_gelu=model.get("quick_gelu", False))
    _check_sizes(file.parent / CONFIG, model, described["model"])
    scalars = {"log_inv_tau": published.scalar(tensors.pop("logit_scale"))}
    if "logit_bias" in tensors:
        scalars["bias"] = published.scalar(tensors.pop("logit_bias"))
    objective = {
        "name": "siglip" if "bias" in scalars else "clip",
        "inv_tau": float(np.exp(scalars["log_inv_tau"])),
        "learn_inv_tau": True,
    }
    described["objective"] = objective
    return Published(tensors, names.openai, described, scalars)


def _weights_file(folder: Path) -> Path:
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: none of {', '.join(_FILES)} is there")


def _check_sizes(path: Path, given: dict[str, Any], described: dict[str, Any]) -> None:
    """Refuses a config that tells of another model than the tensors do."""
    size = models.SIZES[described["name"]]
    vision, text = given.get("vision_cfg", {}), given.get("text_cfg", {})
    layers = size.vision_layers
    for field, value, expected in (
        ("text_cfg.heads", text.get("heads", 8), size.text_heads),
        ("text_cfg.width", text.get("width"), size.text_width),
        ("text_cfg.layers", text.get("layers"), size.text_layers),
        (
            "text_cfg.context_length",
            text.get("context_length"),
            described["context_length"],
        ),
        ("vision_cfg.width", vision.get("width"), size.vision_width),
        ("vision_cfg.patch_size", vision.get("patch_size"), size.patch_size),
        (
            "vision_cfg.layers",
            vision.get("layers"),
            layers[0] if len(layers) == 1 else list(layers),
        ),
        ("embed_dim", given.get("embed_dim"), size.embed_dim),
    ):
        if value not in (None, expected):
            raise UserError(
                f"{path}: {field}={value}, but {described['name']}, which the tensors "
                f"are, has {expected}"
            )


def _read_config(path: Path) -> dict[str, Any]:
    config = published.read_json(path)
    _check(path, config, "", {"model_cfg": ..., "preprocess_cfg": ...})
    if "model_cfg" not in config:
        raise UserError(f"{path}: there is no model_cfg")
    model = config["model_cfg"]
    _check(path, model, "model_cfg.", _MODEL)
    _check(path, model.get("vision_cfg", {}), "model_cfg.vision_cfg.", _VISION)
    _check(path, model.get("text_cfg", {}), "model_cfg.text_cfg.", _TEXT)
    if not isinstance(model.get("quick_gelu", False), bool):
        raise UserError(f"{path}: model_cfg.quick_gelu is neither true nor false")
    preprocess = config.get("preprocess_cfg") or {}
    for name in _PREPROCESS.keys() & preprocess.keys():
        _check(path, {name: preprocess[name]}, "preprocess_cfg.", _PREPROCESS)
    return {"model_cfg": model}


def _check(path: Path, given: Any, prefix: str, known: dict[str, Any]) -> None:
    if not isinstance(given, dict):
        raise UserError(f"{path}: {prefix.rstrip('.')} is no object")
    for name, value in given.items():
        expected = known.get(name)
        if expected not in (..., value) and (value or name in known):
            raise UserError(
                f"{path}: {prefix}{name}={json.dumps(value)} is no part of CLIP's "
                "encoders as they are here"
            )


def write(ours: Ours, folder: Path) -> None:
    """Writes what `open_clip.create_model("local-dir:FOLDER")` loads.

    Raises:
      UserError: encoders that open_clip does not have.
    """
    published.check_exportable(ours, "open_clip")
    model = ours.config["model"]
    size = models.SIZES[model["name"]]
    is_resnet = size.patch_size is None
    variables = {"params": ours.params, "batch_stats": ours.batch_stats}
    tensors = names.to_state_dict(variables, names.openai)
    for tensor in [name for name in tensors if name.endswith(".running_var")]:
        counter = tensor.replace("running_var", "num_batches_tracked")
        tensors[counter] = np.zeros((), np.int64)
    scalars = published.scalars_of(ours)
    tensors["logit_scale"] = scalars["log_inv_tau"]
    if "bias" in scalars:
        tensors["logit_bias"] = scalars["bias"]
    model_cfg = {
        "embed_dim": size.embed_dim,
        "quick_gelu": model.get("quick_gelu", True),
        "vision_cfg": {
            "image_size": published.image_size_of(ours),
            "layers": list(size.vision_layers) if is_resnet else size.vision_layers[0],
            "width": size.vision_width,
            "patch_size": size.patch_size,
        },
        "text_cfg": {
            "context_length": published.context_length_of(ours),
            "vocab_size": size.vocabulary_size,
            "width": size.text_width,
            "heads": size.text_heads,
            "layers": size.text_layers,
        },
    }
    if "bias" in scalars:
        model_cfg["init_logit_bias"] = float(scalars["bias"])
    config = {"model_cfg": model_cfg, "preprocess_cfg": _PREPROCESS}
    writers.write_json(folder / CONFIG, config)
    published.save_tensors(tensors, folder / _FILES[0])
