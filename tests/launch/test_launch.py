"""What holds for all scripts in launch/, and local.sh."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_commands import ODD_ARGUMENTS, ROOT

_LAUNCH = ROOT / "launch"
_SCRIPTS = [*_LAUNCH.glob("**/*.sh"), _LAUNCH / "slurm.sbatch"]
_COMMANDS = sorted(path for path in _SCRIPTS if path.stat().st_mode & 0o100)
_RUN = ["--config=configs/shapes_tiny.py", "--workdir=gs://b/runs/mine"]
_POD = ["--name=mine", "--zone=us-west4-a"]
_TPU = ["--accelerator=v5litepod-16", "--spot"]
_GKE = ["--name=mine", "--zone=us-west4-a", "--image=a/b:1"]
_SLICE = ["--machine_type=ct5lp-hightpu-4t", "--topology=4x4"]
_GPUS = ["--machine_type=a3-highgpu-8g", "--nodes=2"]
_CLUSTER = ["--cluster=c", "--location=us-west4"]


def test_shellcheck_finds_nothing():
    # From the extra `test`: its absence is a failure, not a reason to skip.
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert shellcheck, "pip install '.[test]' brings shellcheck"
    done = subprocess.run(
        [shellcheck, "--external-sources", *map(str, _SCRIPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", _COMMANDS, ids=lambda path: path.name)
def test_help_is_the_comment_above(fakes, path):
    done = fakes.run(str(path.relative_to(_LAUNCH)), "--help")
    if path.name == "worker.sh":  # its arguments are those of cloob_jax.main
        assert fakes.calls() == [
            ["python", "-m", "cloob_jax.supervise", "--", "--help"]
        ]
        return
    lines = path.read_text().splitlines()
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == lines[1].removeprefix("# ")
    assert f"launch/{path.relative_to(_LAUNCH)}" in done.stdout
    assert "set -" not in done.stdout
    assert fakes.calls() == []


@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("local.sh", [], "nothing: expected a number of processes"),
        ("local.sh", ["0", *_RUN], "0: expected a number of processes"),
        ("local.sh", ["four", *_RUN], "four: expected a number of processes"),
        ("local.sh", ["4"], "expected arguments of cloob_jax.main"),
        ("slurm.sbatch", [], "expected arguments of cloob_jax.main"),
        ("slurm.sbatch", _RUN, "not in a job of SLURM"),
        ("tpu_pod.sh", [], "nothing: expected create, install"),
        ("tpu_pod.sh", ["crate", *_POD], "crate: expected create, install"),
        ("tpu_pod.sh", ["create", "--zone=z"], "--name=VALUE is missing"),
        ("tpu_pod.sh", ["create", "--name=mine"], "--zone=VALUE is missing"),
        ("tpu_pod.sh", ["create", "--name=a b", "--zone=z"], "--name=a b: expected"),
        ("tpu_pod.sh", ["create", "--name", "mine"], "--name: expected --name=VALUE"),
        ("tpu_pod.sh", ["create", "--name=", "--zone=z"], "--name: expected"),
        ("tpu_pod.sh", ["create", *_POD, "--zone=b"], "--zone: given twice"),
        ("tpu_pod.sh", ["create", *_POD, "--zoone=b"], "--zoone=b: unknown"),
        ("tpu_pod.sh", ["create", *_POD, "--spot on_demand"], "unknown"),
        ("tpu_pod.sh", ["create", *_POD, "--spot=no"], "--spot: takes no value"),
        ("tpu_pod.sh", ["create", *_POD, "x"], "x: unexpected"),
        ("tpu_pod.sh", ["create", *_POD, _TPU[0]], "give --spot"),
        ("tpu_pod.sh", ["create", *_POD, *_TPU, "--on_demand"], "not both"),
        ("tpu_pod.sh", ["create", *_POD, "--spot"], "--accelerator=VALUE is missing"),
        (
            "tpu_pod.sh",
            ["create", *_POD, "--spot", "--accelerator=v5e-16"],
            "--accelerator=v5e-16: expected v4-N, v5litepod-N (v5e)",
        ),
        ("tpu_pod.sh", ["create", *_POD, *_TPU], "Nobody is there to answer"),
        ("tpu_pod.sh", ["delete", *_POD], "Nobody is there to answer"),
        ("tpu_pod.sh", ["start", *_POD], "expected -- and arguments"),
        ("tpu_pod.sh", ["start", *_POD, *_RUN], "unknown; what is for cloob_jax.main"),
        ("tpu_pod.sh", ["start", *_POD, "--", _RUN[0]], "--workdir=gs://BUCKET/RUN is"),
        (
            "tpu_pod.sh",
            ["up", *_POD, *_TPU, "--", _RUN[0], "--workdir=/runs"],
            "--workdir=gs://BUCKET/RUN is missing",
        ),
        ("tpu_pod.sh", ["up", *_POD, "--poll_seconds=1m"], "--poll_seconds=1m: exp"),
        ("tpu_pod.sh", ["install", *_POD, "--env_file=no"], "--env_file=no: no such"),
        (
            "tpu_pod.sh",
            ["start", *_POD, "--allow_other_region", "--", _RUN[1], "--config=my.py:a"],
            "--config=my.py: not in the last commit",
        ),
        ("gke/gke.sh", [], "nothing: expected create, queue"),
        ("gke/gke.sh", ["start", "--zone=z"], "--name=VALUE is missing"),
        ("gke/gke.sh", ["start", *_GKE, "--", *_RUN], "--machine_type=VALUE is miss"),
        ("gke/gke.sh", ["start", *_GKE, _SLICE[0], "--", *_RUN], "--topology=VALUE is"),
        ("gke/gke.sh", ["start", *_GKE, _GPUS[0], "--", *_RUN], "--nodes=VALUE is"),
        ("gke/gke.sh", ["start", *_GKE, *_SLICE, "--nodes=4"], "--nodes: a slice"),
        ("gke/gke.sh", ["start", *_GKE, *_GPUS, "--topology=2x2"], "GPUs have none"),
        ("gke/gke.sh", ["start", *_GKE, _GPUS[0], "--nodes=two"], "--nodes=two: exp"),
        (
            "gke/gke.sh",
            ["start", *_GKE, "--machine_type=n2-standard-8"],
            "--machine_type=n2-standard-8: expected TPUs such as",
        ),
        (
            "gke/gke.sh",
            ["start", *_GKE, _SLICE[0], "--topology=16"],
            "--topology=16: expected such as 4x8",
        ),
        (
            "gke/gke.sh",
            ["start", *_GKE, _SLICE[0], "--topology=1x3"],
            "3 chips do not fill nodes of 4",
        ),
        ("gke/gke.sh", ["start", *_GKE[:2], *_SLICE, "--image=a b"], "--image=a b: ex"),
        ("gke/gke.sh", ["start", *_GKE, *_SLICE], "expected -- and arguments"),
        ("gke/gke.sh", ["start", *_GKE, *_SLICE, "--", *_RUN[:1]], "--workdir=gs://BU"),
        ("gke/gke.sh", ["queue", *_GKE, *_SLICE], "--queue=VALUE is missing"),
        ("gke/gke.sh", ["create", *_GKE, *_SLICE], "give --spot"),
        ("gke/gke.sh", ["create", *_GKE, *_SLICE, "--spot"], "--cluster=VALUE is miss"),
        ("gke/gke.sh", ["create", *_GKE, *_GPUS, "--spot", *_CLUSTER], "--gpu_type=V"),
        ("gke/gke.sh", ["create", *_GKE, *_SLICE, "--spot", *_CLUSTER], "Nobody is"),
        (
            "gke/gke.sh",
            [
                *("create", *_GKE, "--machine_type=tpu7x-standard-4t", *_CLUSTER),
                *("--topology=4x4x4", "--spot"),
            ],
            "a pool of these needs a workload policy",
        ),
        ("gke/gke.sh", ["delete", *_GKE, *_CLUSTER], "Nobody is there to answer"),
        ("gke/gke.sh", ["delete", *_GKE], "--cluster=VALUE is missing"),
        ("tpu_worker.sh", [], "nothing: expected install, start"),
        ("tpu_worker.sh", ["start", *_RUN], "start: expected -- and arguments"),
        ("tpu_worker.sh", ["start", "--"], "expected arguments of cloob_jax.main"),
    ],
)
def test_a_mistake_is_one_line(fakes, script, arguments, expected):
    done = fakes.run(script, *arguments, SLURM_SUBMIT_DIR=str(ROOT))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{Path(script).name}: ")
    assert expected in done.stderr
    assert not {"create", "delete"} & {word for call in fakes.calls() for word in call}


def documented():
    """The commands of the page that are scripts of launch/, as words."""
    text = (ROOT / "docs/launching.md").read_text()
    for block in re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            for number, word in enumerate(words):
                if word.startswith("launch/") and word.endswith(("sh", "sbatch")):
                    yield word.removeprefix("launch/"), words[number + 1 :]


_DOCUMENTED = list(documented())


@pytest.mark.parametrize(("script", "arguments"), _DOCUMENTED)
def test_a_dry_run_of_the_page_prints_commands_and_runs_none(fakes, script, arguments):
    if "--dry_run" not in arguments:
        arguments = ["--dry_run", *arguments]
    done = fakes.run(script, *arguments, SLURM_SUBMIT_DIR=str(ROOT))
    assert (done.returncode, done.stderr) == (0, "")
    assert fakes.calls() == []
    verbs = ("gcloud ", "kubectl ", "python -m cloob_jax.supervise ", "'srun' ")
    assert any(line.startswith(verbs) for line in done.stdout.splitlines())
    for word in arguments:
        if word.startswith("--config="):
            assert (ROOT / word.removeprefix("--config=")).exists()


def test_the_page_has_all_commands():
    verbs = {"create", "start", "status", "logs", "stop", "delete"}
    found = {(script, arguments[0]) for script, arguments in _DOCUMENTED}
    assert {verb for script, verb in found if script == "tpu_pod.sh"} == {
        *verbs,
        *("up", "install"),
    }
    assert {verb for script, verb in found if script == "gke/gke.sh"} == {
        *verbs,
        "queue",
    }
    assert {"slurm.sbatch", "local.sh"} < {script for script, _ in found}


def test_no_hyper_parameter_lives_here():
    for path in _LAUNCH.glob("**/*"):
        text = path.read_text() if path.is_file() else ""
        assert "--config." not in text, path


def test_local_passes_arguments_on(fakes):
    done = fakes.run("local.sh", "4", "--", *ODD_ARGUMENTS)
    assert done.returncode == 0, done.stderr
    supervise = ["python", "-m", "cloob_jax.supervise", "--num_processes=4", "--"]
    assert fakes.calls() == [[*supervise, *ODD_ARGUMENTS]]
    assert not (fakes.home / "pwned").exists()


def test_local_ends_as_the_supervisor_does(fakes):
    fakes.answer("exit 7")
    assert fakes.run("local.sh", "2", *_RUN, PYTHON="python3").returncode == 7
    assert fakes.calls()[0][0] == "python3"
