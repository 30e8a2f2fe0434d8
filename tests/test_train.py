"""What stops a run: each mistake one line, and nothing lost."""

import importlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_step import few_words
from test_tokenizer_file import write

from cloob_jax import step_log, train, writers
from cloob_jax.data import shapes
from cloob_jax.errors import UserError
from cloob_jax.process_group import ProcessGroup
from cloob_jax.run import Run

pytestmark = pytest.mark.usefixtures("two_devices")


@pytest.fixture(autouse=True)
def _waits_for_the_step_before_only(monkeypatch):
    """What is told of a step asks no device for anything but its metrics.

    It would answer behind the step that it is at by then, and lie idle after it.
    """
    settle = step_log.settle

    def guarded(*arguments):
        with jax.transfer_guard("disallow"):
            settle(*arguments)

    monkeypatch.setattr(step_log, "settle", guarded)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    shapes.generate(folder, num_train=64, num_test=16, image_size=32, num_processes=1)
    return folder


def make_config(data, **overrides):
    config = importlib.import_module("configs.shapes_tiny").get_config(str(data))
    config.data.shapes = None
    config.batch_size, config.total_steps, config.data.image_size = 16, 2, 32
    config.model.name = "ViT-tiny"  # compiles faster than a residual network
    config.data.tokenizer = few_words()
    config.optim.warmup_steps = 0
    for field, value in overrides.items():
        node, _, leaf = field.rpartition(".")
        setattr(config[node] if node else config, leaf, value)
    return config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"objective.name": "cloop"}, "cloop.*cloob"),
        ({"objective.form": "plane"}, "plane.*plain"),
        ({"objective.learn_inv_tau": True}, "inv_tau"),
        ({"objective.inv_tau": -1.0}, "inv_tau=-1"),
        ({"model.name": "RN51"}, "RN51.*RN50"),
        ({"model.dtype": "float8"}, r"config\.model\.dtype=float8"),
        ({"model.remat": "all"}, r"model\.remat=all: expected one of none, dots, full"),
        ({"model.attention": "cudnn"}, r"model\.attention=cudnn does not work here"),
        ({"model.attention": "flash"}, r"model\.attention=flash: expected one of auto"),
        ({"model.context_length": 1}, r"model\.context_length=1: expected at least 2"),
        (
            {"data.tokenizer": "/nowhere.json"},
            r"tokenizer=/nowhere\.json: no such file",
        ),
        ({"init_from": "/nowhere"}, "/nowhere: no run directory"),
        ({"freeze": "vision"}, r"config\.freeze=vision: no parameter"),
        ({"model.bn_groups": 3}, "bn_groups=3 does not divide"),
        ({"optim.schedule": "cosin"}, "cosin.*cosine"),
        ({"optim.warmup_steps": 9}, "warmup_steps=9"),
        ({"mesh.tensor": 3}, r"config\.mesh"),
        ({"batch_size": 1}, "batch_size=1.*at least 2"),
        ({"model.bn_groups": 16}, "bn_groups=16.*groups of 2 or more"),
        ({"model.name": None}, r"config\.model\.name has no value"),
        ({"seed": -1}, r"config\.seed=-1: expected 0 to"),
        ({"log_steps": 0}, r"config\.log_steps=0: expected at least 1"),
        ({"eval_steps": 0}, r"config\.eval_steps=0.*at the end only"),
        ({"keep_checkpoints": 0}, r"config\.keep_checkpoints=0"),
        ({"data.num_threads": 0}, r"config\.data\.num_threads=0"),
        ({"optim.ema_decay": 1.5}, r"config\.optim\.ema_decay=1\.5: expected 0 to 1"),
        ({"optim.learning_rate": float("nan")}, "learning_rate=nan"),
        ({"data.shuffle": "none"}, "data.shuffle=none: expected global or window"),
        ({"data.resize": "cubic"}, "data.resize=cubic: expected fast or pil or device"),
        ({"data.train": "gs://bucket/0.csv"}, "gs://bucket"),
        ({"batch_size": 13}, "batch_size=13 does not divide over 2 devices"),
        ({"total_examples": 15}, "no whole step"),
        ({"accept_changed": "batchsize"}, r"no field config\.batchsize"),
        ({"accept_changed": "seed.x"}, r"no field config\.seed\.x"),
        ({"data.train": ""}, r"config\.data\.train is empty"),
        ({"data.train": "/nowhere/{0..3}.tar"}, "which does not exist"),
        ({"evals.shape.root": "/nowhere"}, r"config\.evals\.shape.*nowhere"),
        ({"evals.shape.kind": "zeroshot"}, "kind=zeroshot.*zero_shot"),
        (
            {"evals": {"x": {"kind": "zero_shot", "root": "", "eval_steps": 0}}},
            r"config\.evals\.x\.eval_steps=0: expected at least 1",
        ),
    ],
    ids=str,
)
def test_a_field_that_cannot_be_meant_is_named(data, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        train.train_and_evaluate(make_config(data, **overrides), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_non_finite_loss_stops_with_the_batch(data, tmp_path):
    config = make_config(
        data,
        **{"optim.learning_rate": 1e30, "optim.schedule": "constant"},
        total_steps=6,
        checkpoint_steps=1,
    )
    with pytest.raises(UserError, match=r"step 1: loss \S+, gradient norm") as caught:
        train.train_and_evaluate(config, tmp_path / "run")
    assert "last checkpoint is none" in str(caught.value)
    folder = tmp_path / "run" / "autopsy" / "1"
    assert (folder / "records.json").read_text().count(".tar") == 16
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_no_state_is_kept_that_is_not_finite(data, tmp_path):
    # Without eps, Adam divides zero by zero on tokens that the batch lacks: the loss
    # and the gradient of that step are finite, the parameters after it are not.
    config = make_config(data, **{"optim.eps": 0.0}, checkpoint_steps=1)
    with pytest.raises(UserError, match=r"step 1: .*parameter norm nan.*is none"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []


def test_an_evaluation_that_was_cut_short_is_made_up_for(data, tmp_path):
    config = make_config(data, checkpoint_steps=1, eval_steps=1)
    for name in ("colour", "texture", "held_out"):
        del config.evals[name]
    train.train_and_evaluate(config, tmp_path / "run")
    # As if the run had been killed while it evaluated step 1.
    path = tmp_path / "run" / "metrics.jsonl"
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "2")
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    evaluated = [line for line in lines if '"val/' in line]
    path.write_text("".join(line for line in lines if line != evaluated[0]))
    train.train_and_evaluate(config, tmp_path / "run")
    again = [line for line in path.read_text().splitlines(True) if '"val/' in line]
    assert again == evaluated
    train.train_and_evaluate(config, tmp_path / "run")  # nothing is written twice
    again = [line for line in path.read_text().splitlines(True) if '"val/' in line]
    assert again == evaluated


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(data, tmp_path):
    config = make_config(data, evals={}, total_steps=4, checkpoint_steps=1)
    train.train_and_evaluate(config, tmp_path / "run")
    flip(tmp_path / "run" / "checkpoints" / "4" / "train")
    train.train_and_evaluate(config, tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_text()
    assert re.search(r"DAMAGED: \S+/checkpoints: step 4 .*lies in \S+/damaged/4", log)
    assert "going on after step 3" in log
    assert [path.name for path in (tmp_path / "run" / "damaged").iterdir()] == ["4"]
    steps = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert sorted(steps) == ["2", "3", "4"]
    for step in steps:
        flip(tmp_path / "run" / "checkpoints" / step / "train")
    with pytest.raises(UserError, match="no checkpoint that is whole.*damaged/2"):
        train.train_and_evaluate(config, tmp_path / "run")
    aside = sorted(path.name for path in (tmp_path / "run" / "damaged").iterdir())
    assert aside == ["2", "3", "4", "4.2"]


def flip(item):
    """Flips a bit in the middle of the largest file of an item."""
    path = max(
        (p for p in item.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_the_best_step_stays_and_is_saved_when_it_is_measured(data, tmp_path):
    evals = {"shape": make_config(data).evals.shape}
    name = "val/shape-zeroshot-val-top1"
    config = make_config(data, evals=evals, total_steps=6, checkpoint_steps=100)
    config.eval_steps, config.keep_checkpoints, config.keep_best = 1, 1, name
    train.train_and_evaluate(config, tmp_path / "run")
    lines = writers.read_json_lines(tmp_path / "run" / "metrics.jsonl")
    scores = {row["step"]: row[name] for row in lines if name in row}
    assert sorted(scores) == [1, 2, 3, 4, 5, 6]
    # When the last was saved, it had not been measured.
    best = max(range(1, 6), key=lambda step: (scores[step], step))
    steps = {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert steps == {best, 6}


def test_each_evaluator_has_its_interval():
    evals = {"seldom": {"eval_steps": 6}, "often": {"eval_steps": None}, "x": {}}
    config = ConfigDict({"eval_steps": 2, "evals": evals})
    parts = SimpleNamespace(total_steps=12)
    anything = SimpleNamespace(task="", dataset=0, run=print, cells=print)
    tests = dict.fromkeys(evals, anything)
    some = SimpleNamespace(config=config, parts=parts, tests=tests)
    due = {step: sorted(Run.due(some, step)) for step in range(13)}
    # At the end all are run, whatever their intervals.
    assert due.pop(6) == ["often", "seldom", "x"] and due.pop(12) == []
    for step, names in due.items():
        assert names == (["often", "x"] if step and step % 2 == 0 else [])


def test_another_data_set_in_the_same_workdir_is_refused(data, tmp_path):
    config = make_config(data, evals={})
    train.train_and_evaluate(config, tmp_path / "run")
    other = tmp_path / "other"
    copy_with_a_longer_tar(data / "train", other)
    with pytest.raises(UserError, match="not the data that --workdir was trained on"):
        train.train_and_evaluate(
            make_config(data, evals={}, **{"data.train": str(other)}), tmp_path / "run"
        )
    # The same data elsewhere is the same data.
    moved = tmp_path / "moved"
    shutil.copytree(data / "train", moved)
    train.train_and_evaluate(
        make_config(data, evals={}, **{"data.train": str(moved)}), tmp_path / "run"
    )


def test_another_batch_size_or_data_set_is_taken_where_asked_for(data, tmp_path):
    settings = {"evals": {}, "total_steps": None, "log_steps": 1, "checkpoint_steps": 2}
    config = make_config(data, **settings, total_examples=80)
    workdir, other = tmp_path / "run", tmp_path / "other"
    train.train_and_evaluate(config, workdir)
    for step in (4, 5):  # as if it was stopped after step 2
        shutil.rmtree(workdir / "checkpoints" / str(step))
    copy_with_a_longer_tar(data / "train", other)

    config.batch_size, config.data.train = 24, str(other)
    with pytest.raises(UserError, match="=16, now it is 24.*changed=batch_size to go"):
        train.train_and_evaluate(config, workdir)
    config.accept_changed = "batch_size"
    with pytest.raises(UserError, match="accept_changed=batch_size,data.train to go"):
        train.train_and_evaluate(config, workdir)
    config.accept_changed += ",data.train"
    train.train_and_evaluate(config, workdir)
    log = (workdir / "log.txt").read_text()
    assert "the data has changed after step 2" in log
    assert "config.batch_size has changed after step 2: 16 -> 24" in log
    # The 48 examples that are left after two steps make two more.
    lines = writers.read_json_lines(workdir / "metrics.jsonl")
    found = [(row["step"], row["examples_seen"]) for row in lines]
    assert found == [(1, 16), (2, 32), (3, 56), (4, 80)]
    rates = [row["train/lr"] for row in lines]
    assert rates[2] == pytest.approx(rates[0] / 2)  # half of the way down the cosine


def copy_with_a_longer_tar(source, target):
    shutil.copytree(source, target)
    tar = target / "00000.tar"
    tar.write_bytes(tar.read_bytes() + bytes(10240))


class _Asked(ProcessGroup):
    """Remembers what the processes of a run would compare."""

    def agree(self, facts):
        self.facts = getattr(self, "facts", {}) | facts
        super().agree(facts)


def test_processes_compare_what_their_tokenizers_hold(data, tmp_path):
    path, told = write(tmp_path / "tokenizer.json"), []
    for turn in range(3):
        if turn == 2:
            content = Path(path).read_text()
            other = content.replace('"cat"', '"cow"')
            assert len(other) == len(content) and other != content
            Path(path).write_text(other)
        group = _Asked()
        config = make_config(data, evals={}, **{"data.tokenizer": path})
        config.init_from = "/nowhere"  # where it ends, all being agreed
        with pytest.raises(UserError, match="/nowhere"):
            train.train_and_evaluate(config, tmp_path / str(turn), group)
        told.append(group.facts["what is in config.data.tokenizer"])
    assert told[0] == told[1] != told[2]


def test_embeddings_of_a_ragged_tail_are_exact(data):
    from cloob_jax import program, sharding

    config = make_config(data, **{"model.name": "RN-tiny"})
    parts = program.build(config, sharding.make_mesh())
    embed_images, embed_texts = parts.embedders(parts.init())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (17, 32, 32, 3), np.uint8)  # a batch and one more
    features, together = embed_images(images)
    alone = [embed_images(images[i : i + 1])[1] for i in range(17)]
    assert together.shape == features.shape == (17, 64)
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    # A residual network's features are its embeddings before they are normalised.
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(features / lengths, together, rtol=1e-5)
    texts = rng.integers(1, 49406, (3, parts.model.context_length), np.int32)
    assert embed_texts(texts).shape == (3, 64)
