"""Which fields may change when a run goes on."""

import importlib

import pytest

from cloob_jax import program, resume


def plain(**overrides):
    config = importlib.import_module("configs.shapes_tiny").get_config()
    for field, value in overrides.items():
        node, _, leaf = field.rpartition(".")
        setattr(config[node] if node else config, leaf, value)
    return resume.plain(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("log_steps", 7),
        ("mesh.data", 4),
        ("evals", {}),
        ("data.train", "/elsewhere"),
        ("data.shapes", None),
        ("data.num_workers", 3),
        ("model.remat", "full"),
        ("model.scan_layers", False),
    ],
)
def test_what_no_state_depends_on_may_change(field, value):
    assert resume.differences(plain(), plain(**{field: value})) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1),
        ("batch_size", 64),
        ("total_steps", 10),
        ("optim.learning_rate", 1.0),
        ("model.name", "RN50"),
        ("objective.name", "clip"),
        ("data.image_size", 64),
    ],
)
def test_what_the_state_depends_on_may_not(field, value):
    [(found, _, now)] = resume.differences(plain(), plain(**{field: value}))
    assert (found, now) == (field, value)


def test_runs_from_before_a_field_did_what_it_says_now():
    saved = plain()
    del saved["data"]["resize"], saved["data"]["shuffle"]
    assert resume.differences(saved, plain(**{"data.resize": "pil"})) == []
    [found] = resume.differences(saved, plain(**{"data.resize": "fast"}))
    assert found == ("data.resize", "pil", "fast")


def test_the_length_in_examples_holds_over_batch_sizes():
    config = importlib.import_module("configs.shapes_tiny").get_config()
    config.total_examples, config.batch_size = 1000, 32
    assert program.num_steps(config) == 1000 // 32
    # 10 steps of 32, then 20 of 34 and none for the last 10 examples.
    config.batch_size = 34
    for done in range(10, 31):
        assert program.num_steps(config, done, 320 + 34 * (done - 10)) == 30
