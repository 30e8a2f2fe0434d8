"""The reference implementations themselves, with random weights, both ways.

They are the extra `reference`, far too large for every run of the tests:

    pip install '.[test,reference]' && pytest tests/weights/test_reference.py
"""

import json

import numpy as np
import pytest

import cloob_jax
from cloob_jax import convert

torch = pytest.importorskip("torch", reason="the extra `reference` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of what is not ours

SIZES = {
    "RN-tiny": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
    "ViT-tiny": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
}
TEXT = {"context_length": 24, "width": 64, "heads": 1, "layers": 1}
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


def inputs():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    texts = ["a cat", "two dogs & a naïve café", "🙂", ""]
    return images, texts


def randomise(model):
    """Leaves no value at one that could hide its absence."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point() or "mask" in name:
                continue
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var") or tensor.ndim == 1:
                tensor.copy_(0.5 + noise)
            elif tensor.ndim == 0:
                tensor.fill_(3.3)
            else:
                tensor.add_(0.1 * (noise - 0.5))
    return model.eval()


def embeddings(model, ids, encode_image, encode_text):
    images, _ = inputs()
    pixels = torch.tensor((images / 255 - MEAN) / STD).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        sides = encode_image(pixels), encode_text(torch.tensor(ids).long())
    return [(x / x.norm(dim=-1, keepdim=True)).numpy() for x in sides]


def assert_near(found, expected):
    for value, wanted in zip(found, expected, strict=True):
        assert np.abs(value - wanted).max() < 1e-4 * np.abs(wanted).max()


def run(*arguments):
    convert.main([str(argument) for argument in arguments])


def ours(folder):
    model = cloob_jax.load(folder)
    images, texts = inputs()
    embeds = [model.encode_image(images), model.encode_text(texts)]
    return model, embeds, model.tokenizer(texts)


# OpenAI's and the CLOOB authors' are QuickGELU always.
@pytest.mark.parametrize(
    "kind, quick_gelu",
    [("openai", True), ("cloob", True), ("open_clip", True), ("open_clip", False)],
)
@pytest.mark.parametrize("name", SIZES)
def test_open_clip(tmp_path, name, quick_gelu, kind):
    open_clip = pytest.importorskip("open_clip")
    config = {"embed_dim": 64, "vision_cfg": SIZES[name], "text_cfg": TEXT}
    config["quick_gelu"] = quick_gelu
    model = randomise(
        open_clip.model.CLIP(64, SIZES[name], TEXT, quick_gelu=quick_gelu)
    )
    source, state = tmp_path / "source", model.state_dict()
    if kind == "openai":
        sizes = {"input_resolution": 32, "context_length": 24, "vocab_size": 49408}
        torch.save(state | {k: torch.tensor(v) for k, v in sizes.items()}, source)
    elif kind == "cloob":
        state = {f"module.{k}": v for k, v in state.items() if k != "logit_scale"}
        state["module.logit_inv_tau"] = torch.tensor(3.4)
        torch.save({"epoch": 3, "state_dict": state}, source)
    else:
        source.mkdir()
        torch.save(state, source / "open_clip_pytorch_model.bin")
        text = json.dumps({"model_cfg": config})
        (source / "open_clip_config.json").write_text(text)
    run(source, tmp_path / "ours", f"--from={kind}")
    _, found, ids = ours(tmp_path / "ours")
    expected = embeddings(model, ids, model.encode_image, model.encode_text)
    assert_near(found, expected)

    run(tmp_path / "ours", tmp_path / "out", "--from=cloob_jax", "--to=open_clip")
    again = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    for key, tensor in model.state_dict().items():
        if "num_batches" not in key and (kind, key) != ("cloob", "logit_scale"):
            assert torch.equal(again.state_dict()[key], tensor), key


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_hugging_face(tmp_path, activation):
    transformers = pytest.importorskip("transformers")
    text = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "max_position_embeddings": 24,
        "hidden_act": activation,
    }
    vision = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "hidden_act": activation,
    }
    config = transformers.CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=64
    )
    model = randomise(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path / "source")
    run(tmp_path / "source", tmp_path / "ours", "--from=huggingface")
    _, found, ids = ours(tmp_path / "ours")

    def features(output):
        return getattr(output, "pooler_output", output)

    expected = embeddings(
        model,
        ids,
        lambda pixels: features(model.get_image_features(pixel_values=pixels)),
        lambda ids: features(model.get_text_features(input_ids=ids)),
    )
    assert_near(found, expected)

    run(tmp_path / "ours", tmp_path / "out", "--from=cloob_jax", "--to=huggingface")
    again, info = transformers.CLIPModel.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(info.values())
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    _, texts = inputs()
    rows = tokenizer(texts, padding="max_length", truncation=True)["input_ids"]
    for row, expected in zip(rows, ids.tolist(), strict=True):
        end = expected.index(49407)
        assert row[: end + 1] == expected[: end + 1]
