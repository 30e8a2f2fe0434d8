"""Eight CPU devices, no silent rank promotion, a cache to share, the longest first."""

import functools
import gc
import os
import tempfile
from pathlib import Path

import pytest

# Tracing makes many objects and few cycles, for which Python looks after every 700: a
# twentieth of the time.
gc.set_threshold(20_000, 10, 10)

_CACHE = Path(tempfile.gettempdir()) / f"cloob-jax-tests-{os.getuid()}"

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Compiling takes most of the time of these tests, and optimising most of that.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# The older emitters of XLA, where it still has them, compile in half the time; so does
# one module for LLVM instead of many, where there are few cores.
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters",
        "--xla_cpu_parallel_codegen_split_count=1",
    )
)
# Threads of XLA, of which a collective holds one while it waits for other devices. By
# default there are as many as devices or cores: all may wait, in other collectives
# each, for what no thread is left to do, and XLA ends the process after 40 seconds.
os.environ["NPROC"] = "32"
# The commands that tests start compile the same few programs again and again.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_CACHE / "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
# Indices of shards go to the tests' own cache, not to the user's.
os.environ["XDG_CACHE_HOME"] = str(_CACHE / "cache")

# Files of tests that take long come first, so that none of them is left over at the end
# while other processes have nothing to do. (pytest --no-loadscope-reorder)
_LONG = (
    "test_distributed",
    "test_docs",
    "test_main",
    "test_step",
    "test_train",
    "test_warm_start",
    "test_checkpoint",
    "test_convert",
    "test_notebooks",
    "test_workers",
    "test_autopsy",
    "test_fuzz",
    "test_process_group",
    "test_order",
    "test_prepare",
)


@pytest.fixture
def two_devices(monkeypatch):
    """Two devices: a save copies a part of each array from each, long for eight."""
    import jax

    from cloob_jax import sharding

    mesh = functools.partial(sharding.make_mesh, devices=jax.devices()[:2])
    monkeypatch.setattr(sharding, "make_mesh", mesh)


def pytest_collection_modifyitems(items):
    """Orders the files, and leaves the order within them."""
    ranks = {name: rank for rank, name in enumerate(_LONG)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))
