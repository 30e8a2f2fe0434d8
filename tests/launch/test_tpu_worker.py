"""tpu_worker.sh on a host: what it writes, tells systemd and says of the run."""

import shutil
import subprocess

import pytest
from fake_commands import ODD_ARGUMENTS, ROOT, remote_command

_RUN = ["--config=configs/shapes_tiny.py", "--workdir=gs://mine/runs/a"]


@pytest.fixture
def host(fakes):
    """A host on which the code lies where install puts it."""
    (fakes.home / "cloob_jax").mkdir()
    shutil.copytree(ROOT / "launch", fakes.home / "cloob_jax/launch")
    (fakes.home / "cloob_jax_venv/bin").mkdir(parents=True)
    python = fakes.environment["PATH"].split(":")[0] + "/python"
    (fakes.home / "cloob_jax_venv/bin/python").symlink_to(python)
    return fakes


def test_arguments_come_to_the_run_as_they_are(host):
    host.fake("git")  # by which any config is in the last commit
    given = [
        "--name=mine",
        "--zone=us-west4-a",
        "--allow_other_region",
        "--",
        *ODD_ARGUMENTS,
    ]
    done = host.run("tpu_pod.sh", "start", *given)
    assert done.returncode == 0, done.stderr
    host.answer('[[ ${0##*/} != sudo || $1 != tee ]] || cat > "$HOME/unit"')
    sent = remote_command(host.calls()[-1])
    # As sshd runs it, by the login shell.
    subprocess.run(
        ["bash", "-c", sent], cwd=host.home, env=host.environment, check=True
    )
    unit = (host.home / "unit").read_text()
    (start,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    host.answer("")
    subprocess.run(
        start.removeprefix("ExecStart=").split(), env=host.environment, check=True
    )
    assert host.calls()[-1] == [
        *("python", "-m", "cloob_jax.supervise", "--", *ODD_ARGUMENTS)
    ]
    assert not list(host.home.glob("**/pwned"))


def test_the_service_is_one_that_survives(host):
    host.answer('[[ ${0##*/} != sudo || $1 != tee ]] || cat > "$HOME/unit"')
    done = host.run("tpu_worker.sh", "start", "--", *_RUN)
    assert done.returncode == 0, done.stderr
    system = ["sudo", "systemctl"]
    assert host.calls() == [
        ["sudo", "tee", "/etc/systemd/system/cloob_jax.service"],
        [*system, "daemon-reload"],
        [*system, "enable", "--quiet", "cloob_jax"],
        [*system, "restart", "cloob_jax"],
    ]
    unit = (host.home / "unit").read_text().splitlines()
    assert {"RemainAfterExit=yes", "KillMode=mixed", "OOMPolicy=continue"} < set(unit)


@pytest.mark.parametrize(
    ("unit", "system", "expected"),
    [
        ("running", "running", "running"),
        ("stop-sigterm", "degraded", "running"),
        ("exited", "running", "finished"),
        ("dead", "degraded", "stopped"),
        ("failed", "running", "failed with 2"),
        ("dead", "stopping", "ending"),
    ],
)
def test_status_of_a_host(host, unit, system, expected):
    host.answer(
        f"""case "$*" in
          *SubState*) echo {unit} ;;
          *ExecMainStatus*) echo 2 ;;
          *) echo {system}; [[ {system} == running ]] ;;
        esac"""
    )
    done = host.run("tpu_worker.sh", "status")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1] == f"cloob_jax: {expected}\n"
