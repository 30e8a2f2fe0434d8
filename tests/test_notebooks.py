"""Both notebooks: as they lie there, on a fresh machine, and from top to bottom."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import random_run
from nbclient import NotebookClient

from cloob_jax.data import shapes
from configs import shapes_tiny

_ROOT = Path(__file__).parent.parent
_NAMES = ("embeddings", "zero_shot")
_TRAIN = [sys.executable, "-m", "cloob_jax.main", "--config=configs/shapes_tiny.py"]
_STRICT = """
import warnings
warnings.simplefilter("error")
warnings.simplefilter("ignore", PendingDeprecationWarning)  # ipykernel, as it ends
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what the notebooks need, and the two default runs, untrained."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("configs", "notebooks"):
        shutil.copytree(_ROOT / part, folder / part)
    data = folder / "data/shapes"
    shapes.generate(data, num_train=1, num_test=24, image_size=32, num_processes=1)
    evals = shapes_tiny.get_config("data/shapes").evals.to_dict()
    for name in ("shapes_tiny", "shapes_tiny_clip"):
        random_run.write(folder / "runs" / name, evals=evals)
    return folder


def read(name):
    return nbformat.read(_ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(project, name, last="", **variables):
    """Runs all cells and a last one, which may fail, with warnings as errors.

    Returns the figures, the text, and what the last cell put out.
    """
    notebook = read(name)
    own = code(notebook)
    first = nbformat.v4.new_code_cell(_STRICT)
    may_fail = {"tags": ["raises-exception"]}
    last = nbformat.v4.new_code_cell(last, metadata=may_fail)
    notebook.cells = [first, *notebook.cells, last]
    environment = os.environ | {
        "PYTHONPATH": str(_ROOT),
        "IPYTHONDIR": str(project),
        "JAX_NUM_CPU_DEVICES": "1",
    }
    place = {"metadata": {"path": project / "notebooks"}}
    client = NotebookClient(notebook, timeout=300, resources=place)
    client.execute(env=environment | variables)
    outputs = [output for cell in own for output in cell.outputs]
    assert all(cell.execution_count for cell in own)
    assert {o.get("name") for o in outputs} <= {None, "stdout"}  # nothing on stderr
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    return figures, "".join(o.get("text", "") for o in outputs), last.outputs


@pytest.mark.parametrize("name", _NAMES)
def test_nothing_that_came_of_running_it_is_stored(name):
    for cell in code(read(name)):
        assert not cell.outputs and cell.execution_count is None, cell.source


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("zero_shot", [[]]),
        (
            "embeddings",
            [
                [f"--config.objective.name={objective}", f"--workdir={run}"]
                for objective, run in (
                    ("cloob", "runs/shapes_tiny"),
                    ("clip", "runs/shapes_tiny_clip"),
                )
            ],
        ),
    ],
)
def test_the_first_cell_trains_what_is_not_there(
    name, commands, project, tmp_path, monkeypatch
):
    started = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: started.append(command)
    )
    source = code(read(name))[0].source
    for part in ("configs", "notebooks"):
        (tmp_path / part).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    exec(source, {})
    assert Path.cwd() == tmp_path
    assert started == [_TRAIN + flags for flags in commands]
    monkeypatch.chdir(project)
    exec(source, {})
    assert len(started) == len(commands)  # all is there


def test_zero_shot(project):
    run = project / "runs/shapes_tiny_clip"
    figures, text, last = execute(
        project,
        "zero_shot",
        "counts.sum(1)[present].tolist(), counts.trace(), found['held_out']['acc1']",
        CLOOB_JAX_RUN=str(run),
    )
    assert len(figures) == 3
    assert all(f"\n{name}  " in text for name in ("texture", "held_out", "red square"))
    [output] = last
    of_a_class, right, accuracy = eval(output.data["text/plain"], {"np": np})
    assert of_a_class == [3] * 8 and right / 24 == accuracy


def test_embeddings(project):
    mistake = "cloob_jax.load('nowhere')"
    figures, text, last = execute(project, "embeddings", mistake)
    assert len(figures) == 4
    assert text.count("\nCLOOB  ") == text.count("\nCLIP  ") == 2
    [error] = last
    [line] = error.traceback
    assert line.startswith("cloob_jax: nowhere: no run directory")
