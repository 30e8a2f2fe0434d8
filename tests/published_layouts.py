"""State dicts in each published layout, made from one under OpenAI's names.

Written from the libraries' own sources, and sharing nothing with the package.
"""

import json
import pickle

import numpy as np
import safetensors.numpy
import torch_archive

ACTIVATIONS = {True: "quick_gelu", False: "gelu"}


def huggingface(state):
    """The tensors of `CLIPModel`: query, key and value apart, all matrices linear."""
    made = {"logit_scale": state["logit_scale"]}
    for name, tensor in state.items():
        tower = "vision_model" if name.startswith("visual.") else "text_model"
        name = name.removeprefix("visual.")
        if ".resblocks." in name:
            _, _, layer, rest = name.split(".", 3)
            block = f"{tower}.encoder.layers.{layer}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                for letter, part in zip("qkv", np.split(tensor, 3), strict=True):
                    made[f"{block}.self_attn.{letter}_proj.{kind}"] = part
                continue
            for ours, theirs in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_", "layer_norm"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                rest = rest.replace(ours, theirs)
            made[f"{block}.{rest}"] = tensor
        elif name in ("proj", "text_projection"):
            kind = "visual" if name == "proj" else "text"
            made[f"{kind}_projection.weight"] = np.ascontiguousarray(tensor.T)
        elif name != "logit_scale":
            renamed = {
                "class_embedding": "embeddings.class_embedding",
                "conv1.weight": "embeddings.patch_embedding.weight",
                "positional_embedding": "embeddings.position_embedding.weight",
                "token_embedding.weight": "embeddings.token_embedding.weight",
            }.get(name, name)
            for ours, theirs in (
                ("ln_pre", "pre_layrnorm"),
                ("ln_post", "post_layernorm"),
                ("ln_final", "final_layer_norm"),
            ):
                renamed = renamed.replace(ours, theirs)
            made[f"{tower}.{renamed}"] = tensor
    return made


def haiku(params):
    """The two dictionaries of cloob-training, from our parameters of its encoders."""
    return (
        _haiku_tower("vi_t_image_encoder", params["visual"]),
        _haiku_tower("text_encoder", params["text"]),
    )


def _haiku_tower(prefix, tower):
    made = {
        f"{prefix}/pos_embed": {"w": tower["positional_embedding"]},
        f"{prefix}/proj": {
            "w": tower["projection"]["kernel"],
            "b": tower["projection"]["bias"],
        },
    }
    if "class_embedding" in tower:
        made[prefix] = {"class_embed": tower["class_embedding"]}
        made[f"{prefix}/embed"] = {"w": tower["patch_embedding"]["kernel"]}
    else:
        table = tower["token_embedding"]["embedding"]
        made[f"{prefix}/embed"] = {"embeddings": table}
    blocks = tower["transformer"]["blocks"]
    for layer in range(len(blocks["ln_1"]["scale"])):
        block = f"{prefix}/layer_{layer}"
        parts = {
            "self_attention/layer_norm": blocks["ln_1"],
            "feed_forward/layer_norm": blocks["ln_2"],
            "feed_forward/linear_0": blocks["mlp"]["fc"],
            "feed_forward/linear_1": blocks["mlp"]["proj"],
        }
        attention = f"{block}/self_attention/multi_head_attention"
        for ours, theirs in (("query",) * 2, ("key",) * 2, ("value",) * 2):
            made[f"{attention}/{theirs}"] = _linear(blocks["attention"][ours], layer)
        made[f"{attention}/linear"] = _linear(blocks["attention"]["out"], layer)
        for name, part in parts.items():
            is_norm = "scale" in part
            made[f"{block}/{name}"] = (
                {"scale": part["scale"][layer], "offset": part["bias"][layer]}
                if is_norm
                else _linear(part, layer)
            )
    return made


def _linear(part, layer):
    return {"w": part["kernel"][layer], "b": part["bias"][layer]}


def write_openai(path, state):
    """A state dict of OpenAI's archives, with what they say of themselves."""
    numbers = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    extra = {name: np.array(number) for name, number in numbers.items()}
    torch_archive.save_state_dict(path, state | extra)


def write_cloob(path, state, prefix="module."):
    """A checkpoint of the CLOOB authors' `main.py`."""
    state = {k: v for k, v in state.items() if k != "logit_scale"}
    state["logit_inv_tau"] = np.array(np.log(30), np.float32)
    state["logit_scale_hopfield"] = np.array(np.log(8), np.float32)
    counters = [k for k in state if k.endswith("running_var")]
    for name in counters:
        counter = name.replace("running_var", "num_batches_tracked")
        state[counter] = np.array(7)
    named = {prefix + name: tensor for name, tensor in state.items()}
    torch_archive.save_state_dict(
        path,
        named,
        lambda tensors: {"epoch": 28, "state_dict": tensors, "optimizer": {"lr": 0.1}},
    )


def write_open_clip(folder, state, model_cfg, *, binary=False):
    """A folder of open_clip's hub."""
    folder.mkdir()
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"interpolation": "bicubic"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if binary:
        path = folder / "open_clip_pytorch_model.bin"
        torch_archive.save_state_dict(path, state)
    else:
        safetensors.numpy.save_file(state, folder / "open_clip_model.safetensors")


def write_huggingface(folder, state, *, heads, quick_gelu=True):
    """A folder of `CLIPModel.save_pretrained`."""
    folder.mkdir()
    tensors = huggingface(state)
    widths = (
        tensors["text_model.final_layer_norm.weight"].size,
        tensors["vision_model.post_layernorm.weight"].size,
    )
    parts = {
        part: {
            "hidden_act": ACTIVATIONS[quick_gelu],
            "hidden_size": width,
            "num_attention_heads": number,
        }
        for part, width, number in zip(
            ("text_config", "vision_config"), widths, heads, strict=True
        )
    }
    config = {"model_type": "clip"} | parts
    (folder / "config.json").write_text(json.dumps(config))
    positions = {"text_model.embeddings.position_ids": np.arange(24)[None]}
    safetensors.numpy.save_file(tensors | positions, folder / "model.safetensors")


def write_cloob_training(path, params):
    """A slim checkpoint of cloob-training."""
    path.write_bytes(pickle.dumps({"params": haiku(params), "epoch": 16}))
