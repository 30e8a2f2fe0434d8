"""Weights of Hugging Face's `CLIPModel`, both ways, with the files beside them.

Source of the names: `modeling_clip.py` and `configuration_clip.py` in
github.com/huggingface/transformers.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cloob_jax import models, step, tokenizer, writers
from cloob_jax.errors import UserError
from cloob_jax.weights import openai, published
from cloob_jax.weights.names import Place, to_state_dict, torch_axes
from cloob_jax.weights.published import Dimensions, Ours, Published

_TOWERS = {"visual": "vision_model", "text": "text_model"}
_BLOCK_WORDS = {
    "attention/key": "self_attn.k_proj",
    "attention/out": "self_attn.out_proj",
    "attention/query": "self_attn.q_proj",
    "attention/value": "self_attn.v_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp/fc": "mlp.fc1",
    "mlp/proj": "mlp.fc2",
}
_WORDS = {
    "ln_final": "final_layer_norm",
    "ln_post": "post_layernorm",
    "ln_pre": "pre_layrnorm",  # thus in the source
    "patch_embedding": "embeddings.patch_embedding",
    "token_embedding": "embeddings.token_embedding",
}
_BARE = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
}
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
# What is done to a picture, apart from its size.
_PIXELS: dict[str, Any] = {
    "do_resize": True,
    "resample": 3,  # bicubic
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(step.MEAN),
    "image_std": list(step.STD),
}
_END_IDS = (tokenizer.END_ID, 2)  # 2 in older files: the largest id, as in OpenAI's


def naming(path: tuple[str, ...], rank: int) -> Place:
    """The names of `CLIPModel`; every matrix is a linear map's, [out, in]."""
    tower, *modules, leaf = path
    axes = torch_axes(leaf, rank)
    if modules == ["projection"]:
        kind = "visual" if tower == "visual" else "text"
        return Place(f"{kind}_projection.weight", axes)
    if leaf in _BARE:
        return Place(f"{_TOWERS[tower]}.{_BARE[leaf]}", axes)
    last = "bias" if leaf == "bias" else "weight"
    if modules[0] == "transformer":
        layer = modules[1].removeprefix("block_")
        word = f"encoder.layers.{layer}.{_BLOCK_WORDS['/'.join(modules[2:])]}"
    else:
        word = _WORDS[modules[0]]
    return Place(f"{_TOWERS[tower]}.{word}.{last}", axes)


def read(folder: Path) -> Published:
    """A folder that `CLIPModel.save_pretrained` wrote.

    Raises:
      UserError: something lacks, is damaged, or of a kind that these encoders are not.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected the folder with config.json and the weights"
        )
    config = published.read_json(folder / "config.json")
    quick_gelu = _check_config(folder / "config.json", config)
    _check_pixels(folder / "preprocessor_config.json")
    content = openai.state_dict(_read_weights(folder), folder, nested=False)
    tensors = {k: v for k, v in content.items() if not k.endswith(".position_ids")}
    if "logit_scale" not in tensors:
        raise UserError(f"{folder}: there is no tensor logit_scale")
    log_inv_tau = published.scalar(tensors.pop("logit_scale"))
    patches = "vision_model.embeddings.patch_embedding.weight"
    width, _, patch_size, _ = published.shape(tensors, patches, 4)
    embeddings = "text_model.embeddings"
    tokens = published.shape(tensors, f"{embeddings}.token_embedding.weight", 2)
    published.check_vocabulary(tokens[0])
    found = Dimensions(
        embed_dim=published.shape(tensors, "text_projection.weight", 2)[0],
        vision_layers=(published.count(tensors, "vision_model.encoder.layers"),),
        vision_width=width,
        patch_size=patch_size,
        text_width=tokens[1],
        text_layers=published.count(tensors, "text_model.encoder.layers"),
    )
    position = "embeddings.position_embedding.weight"
    described = published.describe(
        found,
        num_positions=published.shape(tensors, f"vision_model.{position}", 2)[0],
        context_length=published.shape(tensors, f"text_model.{position}", 2)[0],
        quick_gelu=quick_gelu,
    )
    described["objective"] = {
        "name": "clip",
        "inv_tau": float(np.exp(log_inv_tau)),
        "learn_inv_tau": True,
    }
    return Published(tensors, naming, described, {"log_inv_tau": log_inv_tau})


def _read_weights(folder: Path) -> dict[str, np.ndarray]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return published.read_tensors(folder / "model.safetensors")
    names = published.read_json(index).get("weight_map", {}).values()
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(set(names)):
        tensors |= published.read_tensors(folder / Path(name).name)
    return tensors


def _check_config(path: Path, config: dict[str, Any]) -> bool:
    """Whether the activation is QuickGELU; all else has to be CLIP's."""
    kind = config.get("model_type")
    if kind != "clip":
        raise UserError(f"{path}: model_type={kind}, expected clip")
    heads = {"text_config": 8, "vision_config": 12}  # the library's defaults
    activations = set()
    for part, default in heads.items():
        values = _part(config, part)
        activations.add(values.get("hidden_act", "quick_gelu"))
        width = values.get("hidden_size", 64 * default)
        wanted = {
            "num_attention_heads": (width // models.HEAD_WIDTH, default),
            "layer_norm_eps": (1e-5, 1e-5),
        }
        for field, (expected, otherwise) in wanted.items():
            value = values.get(field, otherwise)
            if value != expected:
                raise UserError(
                    f"{path}: {part}.{field}={value}, expected {expected} as in CLIP"
                )
    end_id = _part(config, "text_config").get("eos_token_id", tokenizer.END_ID)
    if end_id not in _END_IDS:
        raise UserError(f"{path}: text_config.eos_token_id={end_id}, expected 49407")
    if len(activations) != 1 or not activations <= _ACTIVATIONS.keys():
        found = ", ".join(sorted(map(str, activations)))
        raise UserError(
            f"{path}: hidden_act={found}: expected quick_gelu or gelu for both encoders"
        )
    return _ACTIVATIONS[activations.pop()]


def _part(config: dict[str, Any], part: str) -> dict[str, Any]:
    # The library still lets `text_config_dict` of older files override `text_config`.
    return (config.get(part) or {}) | (config.get(f"{part}_dict") or {})


def _check_pixels(path: Path) -> None:
    if not path.is_file():
        return
    config = published.read_json(path)
    for field, expected in _PIXELS.items():
        value = config.get(field, expected)
        if np.shape(value) != np.shape(expected) or not np.allclose(
            value, expected, atol=1e-6
        ):
            raise UserError(f"{path}: {field}={value}, expected CLIP's {expected}")


def write(ours: Ours, folder: Path) -> None:
    """Writes what `CLIPModel`, `CLIPTokenizer` and `CLIPImageProcessor` load.

    Raises:
      UserError: encoders that the library does not have.
    """
    published.check_exportable(ours, "huggingface")
    name = ours.config["model"]["name"]
    size = models.SIZES[name]
    if size.patch_size is None:
        raise UserError(
            f"{name} is a residual network, and Hugging Face's CLIPModel has vision "
            "transformers alone; --to=open_clip takes it"
        )
    scalars = published.scalars_of(ours)
    if "bias" in scalars:
        raise UserError(
            "siglip's logits have a bias, and Hugging Face's CLIPModel knows none; "
            "--to=open_clip takes it"
        )
    tensors = to_state_dict({"params": ours.params}, naming)
    tensors["logit_scale"] = scalars["log_inv_tau"]
    image_size = published.image_size_of(ours)
    writers.write_json(folder / "config.json", _config(ours))
    writers.write_json(folder / "preprocessor_config.json", _pixels(image_size))
    _write_tokenizer(folder, published.context_length_of(ours))
    published.save_tensors(tensors, folder / "model.safetensors")


def _config(ours: Ours) -> dict[str, Any]:
    size = models.SIZES[ours.config["model"]["name"]]
    quick_gelu = ours.config["model"].get("quick_gelu", True)
    shared = {
        "hidden_act": "quick_gelu" if quick_gelu else "gelu",
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "projection_dim": size.embed_dim,
    }
    text = shared | {
        "model_type": "clip_text_model",
        "vocab_size": size.vocabulary_size,
        "max_position_embeddings": published.context_length_of(ours),
        "hidden_size": size.text_width,
        "intermediate_size": 4 * size.text_width,
        "num_hidden_layers": size.text_layers,
        "num_attention_heads": size.text_heads,
        "bos_token_id": tokenizer.START_ID,
        "eos_token_id": tokenizer.END_ID,
        "pad_token_id": tokenizer.END_ID,
    }
    vision = shared | {
        "model_type": "clip_vision_model",
        "image_size": published.image_size_of(ours),
        "patch_size": size.patch_size,
        "num_channels": 3,
        "hidden_size": size.vision_width,
        "intermediate_size": 4 * size.vision_width,
        "num_hidden_layers": size.vision_layers[0],
        "num_attention_heads": size.vision_width // models.HEAD_WIDTH,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": size.embed_dim,
        "logit_scale_init_value": 2.6592,
        "text_config": text,
        "vision_config": vision,
    }


def _pixels(image_size: int) -> dict[str, Any]:
    return _PIXELS | {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "size": {"shortest_edge": image_size},
        "crop_size": {"height": image_size, "width": image_size},
    }


def _write_tokenizer(folder: Path, context_length: int) -> None:
    vocabulary, merges = tokenizer.spelled()
    start, end = "<|startoftext|>", "<|endoftext|>"
    ids = {token: number for number, token in enumerate([*vocabulary, start, end])}
    text = json.dumps(ids, ensure_ascii=False)
    (folder / "vocab.json").write_text(text + "\n", "utf-8")
    lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    special = {
        "bos_token": start,
        "eos_token": end,
        "pad_token": end,
        "unk_token": end,
    }
    writers.write_json(folder / "special_tokens_map.json", special)
    config = special | {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "do_lower_case": True,
        "errors": "replace",
    }
    writers.write_json(folder / "tokenizer_config.json", config)
