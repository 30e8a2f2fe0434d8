"""What the layering contract in setup.cfg cannot say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
# The door of the objectives takes a mesh and hands on the names of its axes.
_GROUND = sorted((_ROOT / "cloob_jax/models").glob("*.py")) + sorted(
    (_ROOT / "cloob_jax/objectives").glob("[!_]*.py")
)
_CONFIGS = sorted(p for p in (_ROOT / "configs").glob("*.py") if p.stem != "common")


def test_imports_run_downwards():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", _GROUND, ids=lambda path: path.stem)
def test_models_and_objectives_know_no_mesh(path):
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert not names & {"Mesh", "NamedSharding", "PartitionSpec", "process_index"}


@pytest.mark.parametrize("path", _CONFIGS, ids=lambda path: path.stem)
def test_a_config_loads_without_jax(path):
    code = (
        "import sys, importlib; "
        f"c = importlib.import_module('configs.{path.stem}').get_config(); "
        "assert not {'jax', 'cloob_jax', 'numpy'} & set(sys.modules), 'heavy import'; "
        "assert c.model.name and c.optim.learning_rate and c.data.train"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_room_has_a_test():
    tested = {path.stem.removeprefix("test_") for path in _ROOT.glob("tests/**/*.py")}
    rooms = {path.stem for path in _ROOT.glob("cloob_jax/**/*.py")} - {"__init__"}
    # Tested through others: the message class, the record of arrays, the protocol, the
    # compiled parts (step), tables and pictures (zero_shot, writers), what data sets
    # share (labelled, captioned).
    elsewhere = {"errors", "state", "protocol", "program"}
    elsewhere |= {"results", "samples", "embedder", "pictures", "folders", "figures"}
    # Bounds (train, mixture), indices (tars, csv_rows), copies (remote_files).
    elsewhere |= {"validation", "tar_index", "index_cache", "parquet_index"}
    elsewhere |= {"near_copies", "files"}
    # What objectives are made of; scenes and shards of the shapes data set.
    elsewhere |= {"contrastive", "hopfield", "pairwise", "passage", "scenes", "shards"}
    # The published formats (convert), commands (main, convert), encoders for one format
    # (dual_encoder), what program and inference are made of.
    elsewhere |= {"published", "openai", "open_clip", "huggingface", "restricted"}
    elsewhere |= {"command_line", "cloob_training", "embedding", "table"}
    # What plan is made of, the flag (main), the text of programs (collectives).
    elsewhere |= {"text", "compiler", "aot", "step_flops"}
    elsewhere |= {"config_flag", "hlo", "user_cache"}
    # How processes meet (process_group), what a run is set up with (train, main), and
    # tells of itself (main) and its steps (autopsy); digests of checkpoints.
    elsewhere |= {"rendezvous", "run", "run_data", "introduction", "step_log"}
    elsewhere |= {"seals", "stored_weights", "filesystems"}
    # What prepare is made of; findings (contents), what a check does (checking).
    elsewhere |= {"indexing", "findings", "checkup"}
    elsewhere |= {"converting", "destination", "shard_writing"}
    assert sorted(rooms - tested - elsewhere) == []
