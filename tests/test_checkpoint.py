"""Checkpoints: what comes back is what went in, on any mesh; damage is told."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from killed_saves import state_of
from test_step import make_batch, tiny_config

from cloob_jax import program, sharding
from cloob_jax.checkpoint import Checkpoints, Damaged
from cloob_jax.errors import Outage, UserError

_OVERRIDES = {
    "model.name": "ViT-tiny",
    "objective.name": "clip",
    "optim.ema_decay": 0.9,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Parts, a trained state on the host, and the folder that it was saved into."""
    folder = tmp_path_factory.mktemp("checkpoints")
    parts = program.build(tiny_config(**_OVERRIDES), sharding.make_mesh(2, 2, 2))
    state = parts.init()
    with Checkpoints(folder, keep=2) as checkpoints:
        for _ in range(3):
            state, _ = parts.train_step(state, make_batch(parts))
            host = jax.device_get(state)
            checkpoints.save(state, {"examples_seen": 7}, {"seed": 1})
    return parts, host, folder


def test_the_latest_are_kept_with_their_items(saved):
    _, _, folder = saved
    assert sorted(p.name for p in folder.iterdir()) == ["2", "3"]
    items = {path.name for path in (folder / "3").iterdir() if path.is_dir()}
    assert items >= {"params", "train", "data", "meta"}


@pytest.mark.parametrize("mesh", [(2, 2, 2), (8, 1, 1), (1, 8, 1)])
def test_restores_bit_for_bit_on_any_mesh(saved, mesh):
    _, host, folder = saved
    parts = program.build(tiny_config(**_OVERRIDES), sharding.make_mesh(*mesh))
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step() == 3
        assert checkpoints.describe(3) == ({"examples_seen": 7}, {"seed": 1})
        restored = checkpoints.restore(3, parts.abstract_state)
    assert jax.tree.structure(restored) == jax.tree.structure(host)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(host), strict=True):
        np.testing.assert_array_equal(a, b)
    wanted = jax.tree.map(lambda leaf: leaf.sharding, parts.abstract_state)
    found = jax.tree.map(lambda leaf: leaf.sharding, restored)
    assert jax.tree.all(jax.tree.map(lambda a, b: a == b, wanted, found))


def test_a_saved_step_is_left_as_it_is(saved):
    parts, _, folder = saved
    with Checkpoints(folder) as checkpoints:
        state = checkpoints.restore(3, parts.abstract_state)
        checkpoints.save(state, {"examples_seen": 8}, {})
        checkpoints.wait()
        assert checkpoints.describe(3)[0] == {"examples_seen": 7}


def test_damage_is_one_line_that_names_the_folder(saved, tmp_path):
    parts, _, folder = saved
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    for file in (broken / "3" / "params").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:40])
    with Checkpoints(broken) as checkpoints:
        with pytest.raises(UserError, match="broken: step 3 is damaged") as e:
            checkpoints.restore(3, parts.abstract_state)
    assert "\n" not in str(e.value)


def test_another_models_checkpoint_is_refused(saved):
    _, _, folder = saved
    config = tiny_config(**_OVERRIDES | {"model.name": "RN-tiny"})
    parts = program.build(config, sharding.make_mesh())
    with Checkpoints(folder) as checkpoints:
        with pytest.raises(
            UserError, match=r"step 3 holds another model: \S+ is .* here;"
        ):
            checkpoints.restore(3, parts.abstract_state)


def test_a_disk_without_room_is_told_before_anything_is_written(saved, monkeypatch):
    parts, _, folder = saved
    usage = type(shutil.disk_usage(folder))(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    state, _ = parts.train_step(parts.init(), make_batch(parts))
    with Checkpoints(folder) as checkpoints:
        # Weights, their average, and two moments.
        size = 4 * sum(leaf.nbytes for leaf in jax.tree.leaves(state.params)) / 1e6
        message = f"step 1 needs {size:.0f} MB.* 1 MB left.*step 3"
        with pytest.raises(UserError, match=message):
            checkpoints.save(state, {}, {})
    assert sorted(p.name for p in folder.iterdir()) == ["2", "3"]


def test_a_save_may_be_tried_again_unless_it_is_the_disk(tmp_path, monkeypatch):
    errors = iter([TimeoutError("too long"), ValueError("full"), ValueError("503")])

    def fail():
        raise next(errors)

    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, "wait_until_finished", fail)
            with pytest.raises(Outage, match="too long. Complete steps: none"):
                checkpoints.wait()
            with pytest.raises(UserError, match="full. Is the disk full") as caught:
                checkpoints.wait()
            assert not isinstance(caught.value, Outage)
            patch.setattr(checkpoints, "_is_local", False)  # a bucket
            with pytest.raises(Outage, match="503. Complete steps: none"):
                checkpoints.wait()


def small_state(step):
    """As `state_of`, of which a save takes no time."""
    return jax.tree.map(lambda leaf: leaf[:50] if leaf.ndim else leaf, state_of(step))


def abstract(state):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        ),
        state,
    )


def test_the_latest_every_nth_and_the_best_stay(tmp_path):
    with Checkpoints(tmp_path, keep=2, keep_every=4) as checkpoints:
        for step, score in enumerate([0.1, 0.5, 0.9, 0.2, 0.9, 0.3, 0.8, 0.1, 0.1], 1):
            checkpoints.save(small_state(step), {}, {})
            checkpoints.scores[step] = score
        checkpoints.wait()
        # Of equals the later; what nobody scored is never the best.
        assert checkpoints.steps() == [4, 5, 8, 9]
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(small_state(10), {}, {})
        checkpoints.wait()
        assert checkpoints.steps() == [10]
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_flipped_bit_and_no_lost_byte_goes_unseen(tmp_path):
    whole = small_state(3)
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(whole, {"examples_seen": 7}, {"seed": 1})
    files = sorted(p for p in (tmp_path / "run" / "3").rglob("*") if p.is_file())
    rng, seen = np.random.default_rng(0), 0
    with Checkpoints(tmp_path / "run") as checkpoints:
        for number in range(20):
            path = files[number % len(files)]
            before = path.read_bytes()
            after, place = bytearray(before), int(rng.integers(len(before)))
            if number % 4:
                after[place] ^= 1 << int(rng.integers(8))
            else:
                del after[place:]
            path.write_bytes(after)
            try:
                told = checkpoints.describe(3)
                found = checkpoints.restore(3, abstract(whole))
            except (Damaged, UserError):
                seen += 1
            else:  # it hit what nobody reads
                assert told == ({"examples_seen": 7}, {"seed": 1}), path
                jax.tree.map(np.testing.assert_array_equal, found, whole)
            path.write_bytes(before)
    assert seen > 5


def test_a_kill_at_any_moment_of_a_save_loses_nothing_that_was_saved(tmp_path):
    command = [
        sys.executable,
        Path(__file__).parent / "killed_saves.py",
        tmp_path / "c",
    ]
    done = subprocess.run([*command, "--kills=5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kills, " in done.stdout
