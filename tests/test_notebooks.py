"""Both notebooks, top to bottom, where nothing has been trained yet."""

import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

_ROOT = Path(__file__).parent.parent
_NOTEBOOKS = sorted((_ROOT / "notebooks").glob("*.ipynb"))
_SMALL_CONFIG = """
from configs import whole

def get_config():
    config = whole.get_config()
    config.data.shapes.num_train = config.data.shapes.num_test = 80
    config.total_steps, config.optim.warmup_steps = 2, 1
    return config
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A fresh copy of what the notebooks need, with a short default run."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(_ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(_ROOT / "configs", folder / "configs")
    default = folder / "configs/shapes_tiny.py"
    default.rename(default.with_name("whole.py"))
    default.write_text(_SMALL_CONFIG)
    return folder


def execute(project, name, last_cell="", **variables):
    """Runs the notebook's own cells and the last one, which is to fail."""
    notebook = nbformat.read(project / "notebooks" / f"{name}.ipynb", as_version=4)
    strict = "import warnings; warnings.simplefilter('error')"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(strict))
    tags = {"tags": ["raises-exception"]}
    notebook.cells.append(nbformat.v4.new_code_cell(last_cell, metadata=tags))
    environment = os.environ | {
        "PYTHONPATH": str(_ROOT),
        "IPYTHONDIR": str(project),
        "JAX_NUM_CPU_DEVICES": "1",
    }
    del environment["PYTEST_CURRENT_TEST"]  # the kernel would behave otherwise
    place = {"metadata": {"path": project / "notebooks"}}
    NotebookClient(notebook, timeout=300, resources=place).execute(
        env=environment | variables
    )
    *cells, last = (cell for cell in notebook.cells[1:] if cell.cell_type == "code")
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    figures = [o for o in outputs if "image/png" in o.get("data", {})]
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    return figures, text, last.outputs


@pytest.mark.parametrize("path", _NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_that_was_executed_is_stored(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and not cell.get("execution_count")


def test_zero_shot(project):
    figures, text, _ = execute(project, "zero_shot")
    assert len(figures) == 3
    print(text)


def test_embeddings(project):
    figures, text, last = execute(project, "embeddings", "cloob_jax.load('nowhere')")
    assert len(figures) == 4
    print(text, last)
