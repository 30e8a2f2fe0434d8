"""What is set before JAX starts, and left alone where somebody has set it."""

import pytest

from cloob_jax import environment

_NAMES = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_NUM_CPU_DEVICES",
    "NPROC",
)


@pytest.fixture
def variables(monkeypatch, tmp_path):
    for name in _NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = environment.os.environ
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 2)
    return found


def test_compiled_programs_are_kept_by_the_kind_of_processor(variables, tmp_path):
    environment.prepare()
    folder = variables["JAX_COMPILATION_CACHE_DIR"]
    assert folder.startswith(str(tmp_path / "cloob_jax" / "compiled"))
    assert len(folder.rpartition("/")[2]) == 8
    assert "NPROC" not in variables


def test_what_is_set_stays(variables):
    variables["JAX_COMPILATION_CACHE_DIR"] = "/elsewhere"
    variables["JAX_NUM_CPU_DEVICES"], variables["NPROC"] = "4", "3"
    environment.prepare()
    assert variables["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
    assert variables["NPROC"] == "3"
    assert "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in variables


@pytest.mark.parametrize(
    ("devices", "threads"), [("4", "16"), ("1", None), ("x", None)]
)
def test_devices_on_a_cpu_get_threads_to_wait_with(variables, devices, threads):
    variables["JAX_NUM_CPU_DEVICES"] = devices
    environment.prepare()
    assert variables.get("NPROC") == threads
