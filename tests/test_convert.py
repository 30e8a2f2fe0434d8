"""Weights in every published layout go in and come out, bit for bit."""

import functools
import json
import os
import pickle
import re
import subprocess
import sys

import jax
import numpy as np
import published_layouts as layouts
import pytest
import torch_archive
from full_disk import small_files_only

from cloob_jax import architecture, convert, models, stored_weights

OPEN_CLIP = {
    "RN-tiny": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1, "context_length": 24},
    },
    "ViT-tiny": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
        "text_cfg": {"width": 64, "heads": 1, "layers": 1, "context_length": 24},
    },
}


@functools.cache
def random_variables(name):
    shapes = architecture.abstract_variables(models.build(name))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.05, 0.1, leaf.shape).astype(np.float32), shapes
    )


def openai_state(variables):
    """OpenAI's tensors of our variables, by a rule for each kind of name."""
    state = {"logit_scale": np.array(3.25, np.float32)}
    for top in variables.values():
        for tower, modules in top.items():
            prefix = "visual." if tower == "visual" else ""
            state |= _flat(modules, prefix)
    return state


def _flat(tree, prefix):
    made = {}
    for name, part in tree.items():
        if name == "attnpool":
            made[f"{prefix}attnpool.positional_embedding"] = part[
                "positional_embedding"
            ]
            for ours, letter in (("query", "q"), ("key", "k"), ("value", "v")):
                made |= _leaves(part[ours], f"{prefix}attnpool.{letter}_proj")
            made |= _leaves(part["out"], f"{prefix}attnpool.c_proj")
        elif name == "transformer":
            blocks = part["blocks"]
            for layer in range(len(blocks["ln_1"]["scale"])):
                block = jax.tree.map(lambda a, i=layer: a[i], blocks)
                made |= _block(block, f"{prefix}transformer.resblocks.{layer}")
        elif name == "projection":
            key = "visual.proj" if prefix else "text_projection"
            made[key] = part["kernel"]
        elif name.startswith("layer"):
            made |= _flat(part, f"{prefix}{name.replace('_', '.')}.")
        elif isinstance(part, dict):
            renamed = {
                "downsample_conv": "downsample.0",
                "downsample_bn": "downsample.1",
                "patch_embedding": "conv1",
            }.get(name, name)
            made |= _leaves(part, f"{prefix}{renamed}")
        else:
            made[f"{prefix}{name}"] = part
    return made


def _block(block, prefix):
    attention = block["attention"]
    parts = [attention[part] for part in ("query", "key", "value")]
    weights = [np.ascontiguousarray(part["kernel"].T) for part in parts]
    return {
        f"{prefix}.attn.in_proj_weight": np.concatenate(weights),
        f"{prefix}.attn.in_proj_bias": np.concatenate([p["bias"] for p in parts]),
        **_leaves(attention["out"], f"{prefix}.attn.out_proj"),
        **_leaves(block["ln_1"], f"{prefix}.ln_1"),
        **_leaves(block["ln_2"], f"{prefix}.ln_2"),
        **_leaves(block["mlp"]["fc"], f"{prefix}.mlp.c_fc"),
        **_leaves(block["mlp"]["proj"], f"{prefix}.mlp.c_proj"),
    }


def _leaves(part, prefix):
    words = {
        "bias": "bias",
        "embedding": "weight",
        "mean": "running_mean",
        "scale": "weight",
        "var": "running_var",
    }
    made = {f"{prefix}.{words[k]}": v for k, v in part.items() if k != "kernel"}
    if "kernel" in part:
        axes = (3, 2, 0, 1) if part["kernel"].ndim == 4 else (1, 0)
        kernel = np.ascontiguousarray(part["kernel"].transpose(axes))
        made[f"{prefix}.weight"] = kernel
    return made


def run(*arguments):
    convert.main([str(argument) for argument in arguments])


def loaded(folder):
    _, config, item = stored_weights.load(folder)
    variables = {"params": item["params"]["model"]}
    if item["batch_stats"]:
        variables["batch_stats"] = item["batch_stats"]
    return config, variables, item["params"]["objective"]


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("RN-tiny", "openai"),
        ("RN-tiny", "cloob"),
        ("RN-tiny", "open_clip"),
        ("ViT-tiny", "openai"),
        ("ViT-tiny", "open_clip_bin"),
        ("ViT-tiny", "huggingface"),
    ],
)
def test_every_layout_goes_in_and_comes_out_bit_for_bit(tmp_path, capsys, name, kind):
    variables = random_variables(name)
    state = openai_state(variables)
    source, source_format = tmp_path / "source", kind.removesuffix("_bin")
    quick_gelu = not kind.startswith("open_clip")
    if kind == "openai":
        layouts.write_openai(source, state)
    elif kind == "cloob":
        layouts.write_cloob(source, state)
    elif kind == "huggingface":
        layouts.write_huggingface(source, state, heads=(1, 2))
    else:
        binary = kind.endswith("bin")
        layouts.write_open_clip(source, state, OPEN_CLIP[name], binary=binary)

    run(source, tmp_path / "ours", f"--from={source_format}")
    output = capsys.readouterr().out
    assert "none left over, none missing" in output and "fingerprint" in output
    config, found, scalars = loaded(tmp_path / "ours")
    assert_equal(found, variables)
    assert config["model"] == {
        "name": name,
        "quick_gelu": quick_gelu,
        "context_length": 24,
    }
    assert config == json.loads((tmp_path / "ours/config.json").read_text())
    if kind == "cloob":
        assert config["objective"]["name"] == "cloob" and not scalars
        assert config["objective"]["inv_tau"] == pytest.approx(30)
        assert config["objective"]["beta"] == pytest.approx(8)
    else:
        assert scalars == {"log_inv_tau": np.float32(3.25)}
        assert config["objective"]["inv_tau"] == pytest.approx(np.exp(3.25))

    target = "huggingface" if kind == "huggingface" else "open_clip"
    run(tmp_path / "ours", tmp_path / "out", "--from=cloob_jax", f"--to={target}")
    run(tmp_path / "out", tmp_path / "again", f"--from={target}")
    config_again, again, scalars_again = loaded(tmp_path / "again")
    assert_equal(again, variables)
    assert config_again["model"] == config["model"]
    expected = scalars.get("log_inv_tau", np.float32(np.log(30)))
    assert scalars_again["log_inv_tau"] == pytest.approx(expected, rel=1e-7)


def test_half_precision_is_widened_and_listed(tmp_path, capsys):
    variables = random_variables("ViT-tiny")
    halves = jax.tree.map(lambda leaf: leaf.astype(np.float16), variables)
    layouts.write_openai(tmp_path / "half.pt", openai_state(halves))
    run(tmp_path / "half.pt", tmp_path / "ours", "--from=openai")
    _, found, _ = loaded(tmp_path / "ours")
    assert_equal(found, halves)
    output = capsys.readouterr().out
    lines = [line.split() for line in output.splitlines()]
    fused = "visual.transformer.resblocks.{0..1}.attn.in_proj_weight"
    ours = "visual/transformer/blocks[{0..1}]/attention/value/kernel"
    assert [fused, "384x128", "float16", ours, "128x128"] in lines
    patches = ["visual.conv1.weight", "128x3x8x8", "float16"]
    assert [*patches, "visual/patch_embedding/kernel", "8x8x3x128"] in lines
    # Twelve a layer, of which there are three; 8 and 5 others.
    assert "49 tensors mapped (float16 to float32), none left over" in output


def test_cloob_training_goes_in_and_no_further(tmp_path, capsys):
    variables = random_variables("ViT-tiny-cloob-training")
    layouts.write_cloob_training(tmp_path / "slim.pkl", variables["params"])
    run(tmp_path / "slim.pkl", tmp_path / "ours", "--from=cloob_training")
    config, found, _ = loaded(tmp_path / "ours")
    assert_equal(found, variables)
    assert config["model"]["name"] == "ViT-tiny-cloob-training"
    assert config["objective"]["beta"] == 15
    for target in ("open_clip", "huggingface"):
        line = mistake(
            capsys, tmp_path / "ours", tmp_path / "out", "--from=cloob_jax", to=target
        )
        assert f"{target} has no encoders like those of ViT-tiny-cloob" in line


def mistake(capsys, *arguments, to=None):
    """The one line that a command ends with."""
    to = [] if to is None else [f"--to={to}"]
    with pytest.raises(SystemExit) as stop:
        run(*arguments, *to)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("cloob_jax: "), lines
    return lines[0]


class Executes:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Good files to make mistakes with."""
    folder = tmp_path_factory.mktemp("sources")
    state = openai_state(random_variables("ViT-tiny"))
    layouts.write_openai(folder / "openai.pt", state)
    layouts.write_cloob(folder / "cloob.pt", state)
    layouts.write_open_clip(folder / "open_clip", state, OPEN_CLIP["ViT-tiny"])
    layouts.write_huggingface(folder / "huggingface", state, heads=(1, 2))
    return folder, state


@pytest.mark.parametrize(
    "file, source_format, message",
    [
        ("openai.pt", "cloob", "no tensor logit_inv_tau; is it openai or open_clip?"),
        ("openai.pt", "open_clip", "open_clip_config.json: No such file"),
        ("openai.pt", "huggingface", "expected the folder"),
        ("openai.pt", "cloob_training", "damaged: UnpicklingError"),
        ("cloob.pt", "openai", "a training checkpoint .* --from=cloob or"),
        ("huggingface", "openai", "Is a directory"),
        ("huggingface/model.safetensors", "openai", "no zip archive"),
        ("huggingface", "open_clip", "none of open_clip_model.safetensors"),
        ("open_clip", "huggingface", "config.json: No such file"),
        ("open_clip/open_clip_model.safetensors", "openai", "give --from=open_clip"),
        ("open_clip", "cloob_jax", "no run directory"),
        ("nothing.pt", "openai", "no such file or folder"),
    ],
)
def test_a_mixed_up_format_is_named(
    tmp_path, capsys, sources, file, source_format, message
):
    dest = tmp_path / "dest"
    line = mistake(capsys, sources[0] / file, dest, f"--from={source_format}")
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


def altered(state, **changes):
    return {k: v for k, v in (state | changes).items() if v is not None}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"text_projection": None}, "there is no tensor text_projection"),
        ({"ln_final.bias": None}, "ln_final.bias is missing"),
        ({"extra": np.zeros(3, np.float32)}, "extra is left over"),
        ({"ln_final.bias": np.zeros(3, np.float32)}, r"ln_final.bias has shape \(3,\)"),
        (
            {"text_projection": np.zeros((64, 63), np.float32)},
            "none of the named sizes .*embed_dim 63",
        ),
        (
            {"visual.positional_embedding": np.zeros((18, 128), np.float32)},
            "18 positions of square images",
        ),
        (
            {"token_embedding.weight": np.zeros((999, 64), np.float32)},
            "999 rows, CLIP's tokenizer 49408",
        ),
        ({"ln_final.bias": np.full(64, np.nan, np.float32)}, "ln_final.bias .*finite"),
        ({"logit_scale": np.zeros(3, np.float32)}, r"logit_scale has shape \(3,\)"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_named(
    tmp_path, capsys, sources, changes, message
):
    file = tmp_path / "model.pt"
    torch_archive.save_state_dict(file, altered(sources[1], **changes))
    line = mistake(capsys, file, tmp_path / "dest", "--from=openai")
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vision_cfg": {"pool_type": "avg"}}, "vision_cfg.pool_type=.avg"),
        ({"text_cfg": {"hf_model_name": "roberta"}}, "hf_model_name=.roberta"),
        ({"text_cfg": {"heads": 2}}, "text_cfg.heads=2, but ViT-tiny"),
        ({"custom_text": True}, "custom_text=true"),
        ({"quick_gelu": "false"}, "quick_gelu is neither"),
        ({"embed_dim": 3}, "embed_dim=3, but ViT-tiny"),
        ({"vision_cfg": {"head_width": 32}}, "head_width=32"),
    ],
)
def test_an_encoder_of_another_kind_is_named(
    tmp_path, capsys, sources, changes, message
):
    folder = tmp_path / "open_clip"
    layouts.write_open_clip(folder, sources[1], OPEN_CLIP["ViT-tiny"] | changes)
    line = mistake(capsys, folder, tmp_path / "dest", "--from=open_clip")
    assert re.search(message, line), line


@pytest.mark.parametrize("kind", ["openai", "cloob", "open_clip", "cloob_training"])
def test_executable_content_is_refused_by_name_and_not_run(tmp_path, capsys, kind):
    touched = tmp_path / "touched"
    source = tmp_path / "model.pt"
    if kind == "cloob_training":
        source.write_bytes(pickle.dumps({"params": Executes(touched)}))
    else:
        (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
        with torch_archive.modules() as torch:
            torch_archive.save(source, {"state_dict": Executes(touched)}, torch)
        if kind == "openai":
            (tmp_path / "open_clip_config.json").unlink()
    line = mistake(capsys, source, tmp_path / "dest", f"--from={kind}")
    assert "posix.system" in line and "nothing of the file was run" in line
    assert not touched.exists() and not (tmp_path / "dest").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize(
    "file, kind",
    [
        ("openai.pt", "openai"),
        ("open_clip/open_clip_model.safetensors", "open_clip"),
        ("huggingface/model.safetensors", "huggingface"),
    ],
)
def test_a_truncated_file_is_named(tmp_path, capsys, sources, file, kind, share):
    content = (sources[0] / file).read_bytes()
    folder = tmp_path / "source"
    folder.mkdir()
    for beside in ("open_clip/open_clip_config.json", "huggingface/config.json"):
        if kind in beside:
            target = folder / beside.rpartition("/")[2]
            target.write_bytes((sources[0] / beside).read_bytes())
    path = folder / file.rpartition("/")[2]
    path.write_bytes(content[: int(share * len(content))])
    source = path if kind != "huggingface" else folder
    line = mistake(capsys, source, tmp_path / "dest", f"--from={kind}")
    assert str(path) in line
    assert list(tmp_path.iterdir()) == [folder]


def test_an_existing_dest_is_left_alone(tmp_path, capsys, sources):
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest/mine").write_text("precious")
    source = sources[0] / "openai.pt"
    line = mistake(capsys, source, tmp_path / "dest", "--from=openai")
    assert "is there already" in line
    assert (tmp_path / "dest/mine").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


# Ours is written by Orbax, see test_main: its threads would disturb other tests.
@pytest.mark.parametrize("to", ["open_clip", "huggingface"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, capsys, sources, to):
    source = sources[0] / "openai.pt"
    # The tokenizer's merges alone take more, and so do the weights.
    with small_files_only(400_000):
        line = mistake(capsys, source, tmp_path / "dest", "--from=openai", to=to)
    assert "cannot be written" in line or "File too large" in line
    assert list(tmp_path.iterdir()) == []


def test_a_residual_network_is_told_why_hugging_face_does_not_take_it(tmp_path, capsys):
    state = openai_state(random_variables("RN-tiny"))
    layouts.write_openai(tmp_path / "rn.pt", state)
    line = mistake(
        capsys, tmp_path / "rn.pt", tmp_path / "d", "--from=openai", to="huggingface"
    )
    assert "RN-tiny is a residual network" in line and "--to=open_clip" in line
    assert not (tmp_path / "d").exists()


def test_wrong_arguments_are_one_line(capsys):
    for arguments, message in (
        (["a.pt", "d", "--from=opanai"], "invalid choice: 'opanai'"),
        (["a.pt", "--from=openai"], "required: DEST"),
        (["a.pt", "d"], "required: --from"),
    ):
        assert message in mistake(capsys, *arguments)


def test_the_command_runs_without_torch(tmp_path, sources):
    program = (
        "import sys; sys.modules['torch'] = None; from cloob_jax import convert; "
        "convert.main(sys.argv[1:])"
    )
    source = str(sources[0] / "openai.pt")
    command = [sys.executable, "-c", program, source, str(tmp_path / "d")]
    finished = subprocess.run(
        [*command, "--from=openai"], capture_output=True, text=True, check=True
    )
    assert finished.stderr == "" and "wrote" in finished.stdout
