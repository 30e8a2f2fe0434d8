"""Runs that start from the weights of another, and towers that stay as they are."""

import dataclasses
import functools
import importlib
import shutil

import jax
import numpy as np
import pytest
from test_step import few_words

from cloob_jax import (
    inference,
    program,
    resume,
    sharding,
    stored_weights,
    warm_start,
)
from cloob_jax.checkpoint import Checkpoints
from cloob_jax.data import shapes, sources
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup


def make_config(**overrides):
    config = importlib.import_module("configs.shapes_tiny").get_config("nowhere")
    config.data.shapes = None
    config.batch_size, config.total_steps, config.data.image_size = 16, 3, 32
    config.optim.warmup_steps = 0
    for field, value in overrides.items():
        node, _, leaf = field.rpartition(".")
        setattr(config[node] if node else config, leaf, value)
    return config


@functools.cache
def built(settings):
    return program.build(make_config(**dict(settings)), sharding.make_mesh())


def build(**overrides):
    return built(tuple(sorted(overrides.items())))


def begin(parts):
    """A state of random numbers, which needs no compilation."""
    rng = np.random.default_rng(7)

    def draw(leaf):
        values = rng.uniform(0.01, 0.1, leaf.shape).astype(leaf.dtype)
        return jax.device_put(values, leaf.sharding)

    state = jax.tree.map(draw, parts.abstract_state)
    zeros = jax.tree.map(lambda leaf: 0 * leaf, state.opt_state)
    return dataclasses.replace(state, opt_state=zeros)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A converted model, `ViT-tiny` or `RN-tiny`, all of whose numbers are random."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            state = build(**{"model.name": name}).abstract_state
            rng = np.random.default_rng(0)
            model, stats = jax.tree.map(
                lambda leaf: rng.uniform(0.1, 1, leaf.shape).astype(np.float32),
                (state.params["model"], state.batch_stats),
            )
            item = {
                "params": {"model": model, "objective": {"log_inv_tau": np.float32(2)}},
                "batch_stats": stats,
                "ema": None,
            }
            config = {
                "model": {"name": name},
                "data": {},
                "objective": {"name": "clip"},
            }
            stored_weights.save(folder / "checkpoints", item, config)
            made[name] = folder, model, stats
        return made[name]

    return of


def started(**overrides):
    parts = build(**overrides)
    return begin(parts), warm_start.apply(
        begin(parts), make_config(**overrides), ProcessGroup()
    )


def equal(tree, expected):
    same = jax.tree.map(lambda a, b: bool(np.all(np.asarray(a) == b)), tree, expected)
    return all(jax.tree.leaves(same))


def test_everything_is_taken_and_lies_where_it_lay(weights):
    folder, model, stats = weights("RN-tiny")
    fresh, state = started(
        init_from=str(folder), **{"objective.name": "clip", "optim.ema_decay": 0.9}
    )
    assert equal(state.params["model"], model) and equal(state.batch_stats, stats)
    assert equal(state.ema["model"], model)
    assert state.params["objective"]["log_inv_tau"] == 2
    assert state.ema["objective"]["log_inv_tau"] == 2
    assert jax.tree.map(lambda a: a.sharding, state) == jax.tree.map(
        lambda a: a.sharding, fresh
    )


def test_a_temperature_of_the_config_stays(weights):
    folder, _, _ = weights("RN-tiny")
    overrides = {"objective.name": "clip", "objective.inv_tau": 20.0}
    fresh, state = started(init_from=str(folder), **overrides)
    assert equal(state.params["objective"], fresh.params["objective"])


def test_one_tower_is_taken(weights):
    folder, model, stats = weights("RN-tiny")
    fresh, state = started(init_from=str(folder), init_match="image")
    assert equal(state.params["model"]["visual"], model["visual"])
    assert equal(state.params["model"]["text"], fresh.params["model"]["text"])
    assert equal(state.batch_stats, stats)
    fresh, state = started(init_from=str(folder), init_match="text")
    assert equal(state.params["model"]["visual"], fresh.params["model"]["visual"])
    assert equal(state.params["model"]["text"], model["text"])
    assert equal(state.batch_stats, fresh.batch_stats)


def test_statistics_come_with_their_norms(weights):
    folder, _, stats = weights("RN-tiny")
    _, state = started(init_from=str(folder), init_match="^visual/(conv|bn|layer)")
    assert equal(state.batch_stats, stats)


def test_another_image_size_interpolates(weights):
    folder, model, _ = weights("ViT-tiny")
    overrides = {"model.name": "ViT-tiny", "data.image_size": 48}
    _, state = started(init_from=str(folder), **overrides)
    visual = state.params["model"]["visual"]
    assert visual["positional_embedding"].shape == (37, 128)
    assert equal(visual["transformer"], model["visual"]["transformer"])


def test_weights_that_do_not_fit_are_named(weights, tmp_path):
    folder, _, _ = weights("RN-tiny")
    for overrides, message in (
        ({"model.name": "ViT-tiny", "init_from": str(folder)}, "visual/.* none there"),
        ({"init_from": str(folder), "model.quick_gelu": False}, "quick_gelu=True"),
        ({"init_match": "image"}, "init_match=image without config.init_from"),
        ({"init_from": str(tmp_path)}, "no run directory"),
        ({"init_from": str(folder), "init_match": "vision"}, "init_match=vision"),
    ):
        with pytest.raises(UserError, match=message):
            started(**overrides)


def build_small(**overrides):
    """With a table of tokens that is not most of the model."""
    return build(**overrides, **{"data.tokenizer": few_words()})


def batch(parts):
    rng = np.random.default_rng(3)
    texts = rng.integers(3, parts.tokenizer.vocabulary_size, (16, 24), np.int32)
    texts[:, 20] = parts.tokenizer.end_id
    return {
        "image": rng.integers(0, 256, (16, 32, 32, 3), np.uint8),
        "text": texts,
    }


def after_steps(parts, count=2):
    state = begin(parts)
    for _ in range(count):
        placed = jax.device_put(batch(parts), parts.batch_sharding)
        state, metrics = parts.train_step(state, placed)
    return state, metrics


@pytest.mark.parametrize("name", ["RN-tiny", "ViT-tiny"])
def test_a_locked_image_tower_stays_and_the_text_tower_learns(name, tmp_path):
    overrides = {"model.name": name, "freeze": "image"}
    parts = build_small(**overrides)
    before = begin(parts)
    state, metrics = after_steps(parts)
    assert equal(state.params["model"]["visual"], before.params["model"]["visual"])
    assert equal(state.batch_stats, before.batch_stats)
    assert not equal(state.params["model"]["text"], before.params["model"]["text"])
    assert metrics["grad_norm"] > 0

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    # Two moments of each trained parameter, and a few counters.
    trained = count(state.params["model"]["text"])
    assert 2 * trained <= count(state.opt_state) < 2 * trained + 10
    # Such a state goes through a checkpoint as any other.
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, {}, {})
        checkpoints.wait()
        restored = checkpoints.restore(int(state.step), parts.abstract_state)
    assert equal(restored, state)


def test_a_locked_tower_normalises_by_its_running_statistics():
    parts = build_small(**{"model.name": "RN-tiny", "freeze": "image"})
    _, metrics = after_steps(parts, 1)
    embed_images, embed_texts = parts.embedders(begin(parts))
    _, images = embed_images(batch(parts)["image"])
    texts = embed_texts(batch(parts)["text"])
    expected = np.mean(np.sum(images * texts, axis=1))
    assert metrics["positive_similarity"] == pytest.approx(expected, abs=1e-5)


def test_what_is_frozen_is_not_in_the_norm_of_the_gradient():
    # All but the one bias, whose first moment after a step is a tenth of its gradient.
    parts = build_small(
        **{"model.name": "ViT-tiny", "freeze": "^(?!text/ln_final/bias)"}
    )
    state, metrics = after_steps(parts, 1)
    moment = np.concatenate(
        [
            np.ravel(leaf)
            for path, leaf in jax.tree.leaves_with_path(state.opt_state)
            if ".mu" in jax.tree_util.keystr(path)
        ]
    )
    assert moment.size == 64
    assert metrics["grad_norm"] == pytest.approx(10 * np.linalg.norm(moment), rel=1e-4)


def test_what_is_frozen_by_its_path_stays():
    parts = build_small(**{"model.name": "ViT-tiny", "freeze": "embedding"})
    state, _ = after_steps(parts)
    before = begin(parts)
    for tower in ("visual", "text"):
        tables = [k for k in before.params["model"][tower] if "embedding" in k]
        assert tables
        for key in tables:
            assert equal(
                state.params["model"][tower][key], before.params["model"][tower][key]
            )
        assert not equal(
            state.params["model"][tower]["projection"],
            before.params["model"][tower]["projection"],
        )


def test_processes_compare_the_weights_that_they_read(weights, tmp_path):
    told = []

    class Group(ProcessGroup):
        def agree(self, facts):
            told.append(dict(facts))

    folder, model, stats = weights("RN-tiny")
    shutil.copytree(folder, tmp_path / "copy")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model)
    item = {"params": {"model": doubled, "objective": {}}, "batch_stats": stats}
    config = {"model": {"name": "RN-tiny"}, "data": {}, "objective": {"name": "clip"}}
    stored_weights.save(
        tmp_path / "doubled" / "checkpoints", item | {"ema": None}, config
    )
    for path in (folder, tmp_path / "copy", tmp_path / "doubled"):
        warm_start.apply(begin(build()), make_config(init_from=str(path)), Group())
    assert told[0].keys() == {"what is in config.init_from"}
    assert told[0] == told[1] != told[2]


def test_freezing_everything_is_refused():
    with pytest.raises(UserError, match="leaves nothing to train"):
        build(freeze=".")


def test_freezing_what_is_not_there_is_named():
    with pytest.raises(UserError, match=r"config\.freeze=vision: no parameter"):
        build(freeze="vision")


def test_weights_are_no_run_to_go_on_with(weights, tmp_path):
    folder, _, _ = weights("RN-tiny")
    shapes.generate(
        tmp_path / "data", num_train=16, num_test=8, image_size=32, num_processes=1
    )
    source = sources.build(str(tmp_path / "data/train"))
    config = make_config()
    with (
        Checkpoints(folder / "checkpoints") as checkpoints,
        pytest.raises(UserError, match=r"holds weights \(step 0\).*--config.init_from"),
    ):
        resume.start(checkpoints, build(), config, source, ProcessGroup(), print)


def test_the_door_reads_what_a_run_saves(tmp_path):
    state = begin(build(**{"optim.ema_decay": 0.5}))
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, {}, resume.plain(make_config()))
    _, read = inference.read(tmp_path)
    assert equal(read.params, state.ema["model"])
    assert not equal(read.params, state.params["model"])
