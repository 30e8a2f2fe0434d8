"""From a config's fields to encoders."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from cloob_jax import architecture
from cloob_jax.errors import UserError
from cloob_jax.models import transformer


def config(**model):
    return ConfigDict({"model": {"name": "ViT-tiny"} | model, "data": {}})


def test_fields_that_are_lacking_leave_the_model_as_published():
    model, tokens = architecture.build(config())
    assert (model.image_size, model.context_length, tokens.context_length) == (
        32,
        24,
        24,
    )
    assert model.text.activation is transformer.quick_gelu
    assert model.text.compute == transformer.Compute(jnp.bfloat16)


def test_every_field_reaches_both_encoders():
    model, tokens = architecture.build(
        config(
            dtype="float32",
            quick_gelu=False,
            remat="dots",
            scan_layers=False,
            context_length=30,
        )
    )
    compute = transformer.Compute(jnp.float32, "dots", False)
    for tower in (model.visual, model.text):
        assert tower.compute == compute
        assert tower.activation is transformer.exact_gelu
    assert model.text.context_length == tokens.context_length == 30


def test_attention_falls_back_where_cudnn_does_not_compile(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    architecture._attention.cache_clear()
    model, _ = architecture.build(config())
    assert model.text.compute.attention == "xla"
    with pytest.raises(UserError, match="attention=cudnn does not work here"):
        architecture.build(config(attention="cudnn"))
    architecture._attention.cache_clear()


def test_cudnn_is_for_the_transformers_of_clip(monkeypatch):
    monkeypatch.setattr(architecture, "_attention", lambda wanted, dtype: "cudnn")
    model, _ = architecture.build(config())
    assert model.visual.compute.attention == model.text.compute.attention == "cudnn"
    model, _ = architecture.build(config(name="ViT-tiny-cloob-training"))
    assert model.visual.compute.attention == model.text.compute.attention == "xla"
