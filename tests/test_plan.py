"""The plan against the compiler's own messages, its search, and every mistake."""

import errno
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cloob_jax import flops, models, planning, writers
from cloob_jax.chips import CHIPS
from cloob_jax.errors import UserError
from cloob_jax.planning import compiler, topology
from cloob_jax.writers import Progress

_ROOT = Path(__file__).parent.parent
_TINY = {
    "model.name": "ViT-tiny",
    "model.dtype": "bfloat16",
    "batch_size": 64,
    "total_steps": 100,
    "optim.warmup_steps": 1,
}

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="the extra tpu (libtpu, the compiler) is not installed",
)


def start(*flags, cache, config="configs/shapes_tiny.py"):
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    # Set for the other tests; here the program is to be what a user would get.
    for name in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-m", "cloob_jax.plan", f"--config={config}", *flags],
        cwd=_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*flags, cache, **overrides):
    settings = _TINY | overrides
    changed = [f"--config.{name}={value}" for name, value in settings.items()]
    process = start(*flags, *changed, cache=cache)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@needs_compiler
def test_a_plan_says_what_the_compiler_and_formulas_say(cache, tmp_path):
    file = tmp_path / "plan.json"
    flags = ["--topology=v5e:2x2", f"--json={file}"]
    code, output, errors = run(*flags, cache=cache)
    assert code == 0, errors
    plan = json.loads(file.read_text())
    assert plan["fits"] and "FITS: peak" in output
    assert (plan["num_chips"], plan["num_devices"]) == (4, 4)
    assert plan["mesh"] == {"data": 4, "fsdp": 1, "tensor": 1}
    # Replicated float32: the parameters and two moments; a quarter of the batch.
    state = 3 * 4 * plan["num_parameters"]
    batch = 64 // 4 * (32 * 32 * 3 + 24 * 4)
    arguments = plan["memory"]["arguments"]
    assert state + batch <= arguments < 1.1 * (state + batch)  # tiles are padded
    assert arguments < plan["memory"]["peak"] < 2**30
    # A step is three times the encoders of 64 pairs, and the objective.
    model = models.build("ViT-tiny")
    pixels, tokens = jnp.ones((64, 32, 32, 3)), jnp.ones((64, 24), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), pixels, tokens)
    encoders = flops.count(model.apply, variables, pixels, tokens)
    assert 2.9 * encoders < plan["model_flops"] < 3.1 * encoders
    assert plan["executed_flops"] == plan["model_flops"]
    # The gradients are summed, in bfloat16 where they are products of such.
    reduced = plan["collectives"]["all-reduce"]
    assert 2 <= reduced["bytes"] / plan["num_parameters"] < 4.5
    assert reduced["received_bytes"] == pytest.approx(1.5 * reduced["bytes"])
    # The state is read and written at least once.
    assert plan["hbm_bytes"] > 2 * state
    assert plan["seconds"]["memory"] == plan["hbm_bytes"] / 819e9
    assert plan["pairs_per_second"] == pytest.approx(64 / plan["step_seconds"])
    assert plan["days"] * 86400 == pytest.approx(100 * plan["step_seconds"])

    began = time.monotonic()
    file.unlink()
    code, again, errors = run(*flags, cache=cache)
    assert (code, again, errors) == (0, output, "")
    assert json.loads(file.read_text()) == plan
    assert time.monotonic() - began < 15  # from the cache, without a compiler


@needs_compiler
def test_what_does_not_fit_is_an_answer(cache, tmp_path):
    file = tmp_path / "plan.json"
    code, output, errors = run(
        "--topology=v5e:1x1", f"--json={file}", cache=cache, batch_size=65536
    )
    assert code == 0, errors
    plan = json.loads(file.read_text())
    assert not plan["fits"] and "DOES NOT FIT: RESOURCE_EXHAUSTED" in output
    assert plan["usable_bytes"] == CHIPS["v5e"].usable_hbm_bytes
    assert plan["needed_bytes"] > 4 * 65536**2  # one of the objective's matrices
    assert "days" not in plan


@needs_compiler
@pytest.mark.parametrize(
    "name", ["v4:2x2x1", "v5e:2x2", "v5p:4x4x4", "v6e:2x2", "tpu7x:2x2x1"]
)
def test_the_chips_are_as_the_compiler_describes_them(name):
    code = """
import sys
from cloob_jax import sharding
from cloob_jax.planning import aot, topology
import jax
where = topology.parse(sys.argv[1])
devices = aot.devices(where)
assert len(devices) == where.num_devices, len(devices)
assert devices[0].device_kind in where.chip.device_kinds, devices[0].device_kind
# A split of the devices that lies across the dimensions of the torus.
assert sharding.make_mesh(fsdp=2, devices=devices).size == where.num_devices
much = jax.ShapeDtypeStruct(
    (2**44,), "int8", sharding=jax.sharding.SingleDeviceSharding(devices[0])
)
try:
    jax.jit(lambda x: x + 1).lower(much).compile()
except jax.errors.JaxRuntimeError as error:
    found = aot.out_of_memory(str(error))
    assert found["needed_bytes"] >= 2**44, found
    tenth = 2**30 / 100
    assert abs(found["usable_bytes"] - where.chip.usable_hbm_bytes) <= tenth, found
else:
    raise AssertionError("16 TiB fit")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, name], cwd=_ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_the_compiler_it_says_which_extra_to_install(monkeypatch):
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'cloob_jax\[tpu\]'"):
        compiler.facts({}, topology.parse("v5e:2x2"), lambda seconds: None)


@pytest.mark.parametrize("kept", [None, "", "{}", "[1]", '{"fits": tr'])
def test_a_cache_that_cannot_be_used_costs_time_only(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(compiler, "_versions", dict)
    monkeypatch.setattr(compiler, "_compile", lambda *_: {"fits": True})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    where = topology.parse("v5e:2x2")
    compiler.facts({}, where, lambda seconds: None)
    [file] = (tmp_path / "cloob_jax" / "plan").iterdir()
    if kept is None:
        file.unlink()
    else:
        file.write_text(kept)
    monkeypatch.setattr(writers, "write_json", full)
    assert compiler.facts({}, where, lambda seconds: None)["fits"]


@needs_compiler
def test_a_plan_that_is_stopped_stops_its_compiler(tmp_path):
    flags = [f"--config.{name}={value}" for name, value in _TINY.items()]
    process = start("--topology=v5e:2x2", *flags, cache=tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (compiler := children.read_text().split()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in errors
    assert not Path(f"/proc/{compiler[0]}").exists()


_CONFIG = {
    "batch_size": 512,
    "accumulate_steps": 1,
    "total_steps": 100,
    "total_examples": None,
    "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
    "model": {"bn_groups": 1},
}


@pytest.mark.parametrize("most", [0, 1, 5, 16, 100, 511, 4096, 33000])
def test_the_search_ends_within_an_eighth_below_the_most(most, monkeypatch):
    asked = []

    def facts(config, where, report):
        asked.append(config["batch_size"])
        assert config["batch_size"] % 16 == 0
        assert (config["total_steps"], config["total_examples"]) == (100, None)
        return {"fits": config["batch_size"] <= 16 * most}

    monkeypatch.setattr(planning.compiler, "facts", facts)
    where = topology.parse("v5e:4x4")
    found = planning.with_largest_batch(_CONFIG, where, Progress())["batch_size"] // 16
    assert max(most, 1) * 8 / 9 - 1 <= found <= max(most, 1)
    assert len(asked) == len(set(asked)) < 20


@pytest.mark.parametrize("length", ["total_steps", "total_examples"])
def test_a_run_in_larger_batches_is_of_as_many_pairs(length, monkeypatch):
    monkeypatch.setattr(
        planning.compiler,
        "facts",
        lambda config, *_: {"fits": config["batch_size"] <= 2048},
    )
    monkeypatch.setattr(planning, "_times", lambda *given: {"given": given[2:]})
    config = _CONFIG | {"objective": {"name": "cloob"}}
    config["model"] = {"name": "RN50", "bn_groups": 1}
    if length == "total_examples":
        config |= {"total_steps": None, "total_examples": 51_200}
    where = topology.parse("v5e:4x4")
    plan = planning.make(config, where, Progress(), search_batch=True)
    assert plan["batch_size"] == 2048
    assert (plan["num_pairs"], plan["given"]) == (51_200, (2048, 51_200))


@pytest.mark.parametrize(("groups", "least"), [(1, 2), (8, 16), (3, 6)])
def test_the_search_asks_for_no_group_of_one(groups, least, monkeypatch):
    asked = []

    def facts(config, where, report):
        asked.append(config["batch_size"])
        return {"fits": False}

    monkeypatch.setattr(planning.compiler, "facts", facts)
    config = _CONFIG | {"model": {"bn_groups": groups}}
    planning.with_largest_batch(config, topology.parse("v5e:1x1"), Progress())
    assert min(asked) == least and not any(size % least for size in asked)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v5e:3x5"], r"--topology=v5e:3x5: .*2x2, 2x4"),
        ([], "--topology is missing"),
        (["--topology=v5e:2x2", "--config.batch_size=0"], r"config\.batch_size=0"),
        (["--topology=v5e:2x2", "--json=/no/such/x"], "--json=/no/such/x: cannot"),
        (["--topology=v5e:2x2", "--json=/dev/null/x"], "--json=/dev/null/x: cannot"),
    ],
)
def test_mistakes_are_one_line_at_once(flags, message, tmp_path):
    assert_one_line(start(*flags, cache=tmp_path), message)


@needs_compiler
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.batch_size=30", r"config\.batch_size=30 .*nearest.* is 32"),
        ("--config.mesh.fsdp=3", "config.mesh: .*4 device"),
        ("--config.model.attention=cudnn", "attention=cudnn does not work here"),
    ],
)
def test_what_the_program_refuses_is_one_line(flag, message, tmp_path):
    assert_one_line(start("--topology=v5e:2x2", flag, cache=tmp_path), message)


def assert_one_line(process, message):
    output, errors = process.communicate(timeout=100)
    assert (process.returncode, output) == (2, ""), errors
    [line] = [line for line in errors.splitlines() if line.startswith("cloob_jax: ")]
    assert re.search(message, line) and "Traceback" not in errors, errors
