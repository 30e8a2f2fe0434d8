"""slurm.sbatch and worker.sh, with a srun that runs its command once."""

import signal
import subprocess
import time

import pytest
from fake_commands import ODD_ARGUMENTS, ROOT

_JOB = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT)}
_SRUN = """
case "${0##*/}" in
  srun) shift; exec "$@" ;;
  squeue) echo RUNNING ;;
  python) PYTHON ;;
esac
"""
# Saves when told to, as the supervisor does; a second wish would be a mistake.
_SUPERVISOR = """
  trap 'echo wish >> "$HOME/wishes"' TERM
  touch "$HOME/started"
  until [[ -f $HOME/wishes ]]; do sleep 0.02; done
  sleep 0.3
  touch "$HOME/saved"
  exit 0
"""


def srun(python):
    return _SRUN.replace("PYTHON", python)


def begin(fakes, *command):
    """Starts it, and waits until the run has started."""
    process = subprocess.Popen(
        command, cwd=fakes.home, env={**fakes.environment, **_JOB}, text=True
    )
    while not (fakes.home / "started").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def verbs(fakes):
    return [" ".join(call[:2]) for call in fakes.calls()]


def test_arguments_come_to_the_run_as_they_are(fakes):
    fakes.answer(srun("exit 0"))
    done = fakes.run("slurm.sbatch", "--", *ODD_ARGUMENTS, **_JOB)
    assert done.returncode == 0, done.stderr
    called = [*("python", "-m", "cloob_jax.supervise", "--"), *ODD_ARGUMENTS]
    assert fakes.calls()[-1] == called
    assert not (ROOT / "pwned").exists()


@pytest.mark.parametrize("status", [0, 1, 2, 137])
def test_a_run_that_ends_by_itself_is_not_queued_again(fakes, status):
    fakes.answer(srun(f"exit {status}"))
    done = fakes.run("slurm.sbatch", "--config=a", **_JOB)
    assert done.returncode == status
    assert "scontrol requeue" not in verbs(fakes)


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLED"])
def test_a_run_that_is_stopped_is_queued_again_unless_cancelled(fakes, state):
    fakes.answer(srun(_SUPERVISOR).replace("RUNNING", state))
    batch = begin(fakes, "bash", str(ROOT / "launch/slurm.sbatch"), "--config=a")
    batch.send_signal(signal.SIGTERM)
    assert batch.wait(timeout=20) == 143
    assert ("scontrol requeue" in verbs(fakes)) == (state == "RUNNING")
    assert (fakes.home / "saved").exists()
    assert (fakes.home / "wishes").read_text() == "wish\n"


def test_a_worker_passes_on_one_wish_and_waits(fakes):
    fakes.answer(srun(_SUPERVISOR))
    worker = begin(fakes, "bash", str(ROOT / "launch/worker.sh"), "--config=a")
    for _ in range(3):
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    assert worker.wait(timeout=20) == 143
    assert (fakes.home / "saved").exists()
    assert (fakes.home / "wishes").read_text() == "wish\n"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SLURM_GPUS_PER_TASK": "1"}, "--gpus-per-task hides the other GPUs"),
        (
            {"SLURM_NTASKS_PER_NODE": "8", "SLURM_GPUS_ON_NODE": "4"},
            "8 tasks and 4 GPUs a node: give --ntasks-per-node=4",
        ),
        ({"SLURM_SUBMIT_DIR": "/"}, "/: no launch/worker.sh; submit from the top"),
    ],
)
def test_a_mistake_is_one_line(fakes, variables, expected):
    done = fakes.run("slurm.sbatch", "--config=a", **{**_JOB, **variables})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert expected in done.stderr
    assert fakes.calls() == []


def test_steps_get_the_cores_of_the_job(fakes):
    fakes.answer('echo "${SRUN_CPUS_PER_TASK:-none}" > "$HOME/cores"')
    done = fakes.run("slurm.sbatch", "--config=a", SLURM_CPUS_PER_TASK="8", **_JOB)
    assert done.returncode == 0, done.stderr
    assert (fakes.home / "cores").read_text() == "8\n"


def test_sbatch_reads_what_stands_above_the_script():
    lines = (ROOT / "launch/slurm.sbatch").read_text().splitlines()
    options = [
        number for number, line in enumerate(lines) if line.startswith("#SBATCH")
    ]
    # sbatch stops reading at the first line that is neither empty nor a comment.
    code = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert options and max(options) < code
    assert {"#SBATCH --requeue", "#SBATCH --signal=TERM@180"} < set(lines)
