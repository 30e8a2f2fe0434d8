"""tpu_pod.sh with a gcloud that only notes what it is asked."""

import shutil
import subprocess

import pytest
from fake_commands import ROOT, remote_command

_SLICE = ["--name=mine", "--zone=us-west4-a"]
_TPU = ["--accelerator=v5litepod-16", "--spot"]
_RUN = ["--config=configs/shapes_tiny.py", "--workdir=gs://mine/runs/a"]
_NEAR = 'case "$*" in *buckets*) printf "US-WEST4\\t\\n" ;; esac\n'


@pytest.mark.parametrize(
    ("accelerator", "chips", "runtime"),
    [
        ("v5litepod-256", 256, "v2-alpha-tpuv5-lite"),
        ("v6e-64", 64, "v2-alpha-tpuv6e"),
        ("v5p-128", 64, "v2-alpha-tpuv5"),
        ("v4-32", 16, "tpu-ubuntu2204-base"),
    ],
)
def test_create_tells_the_chips_and_asks_for_them(fakes, accelerator, chips, runtime):
    given = [*_SLICE, f"--accelerator={accelerator}", "--on_demand", "--project=p"]
    done = fakes.run("tpu_pod.sh", "create", *given, "--yes")
    assert done.returncode == 0, done.stderr
    assert f"{chips} chips, on-demand, in us-west4-a" in done.stdout
    assert f"{chips} chip-hours an hour, {24 * chips} a day" in done.stdout
    (call,) = fakes.calls()
    names = ["gcloud", "compute", "tpus", "queued-resources", "create", "mine"]
    assert call[:6] == names
    assert set(call[6:]) == {
        *("--node-id=mine", "--zone=us-west4-a", "--project=p"),
        *(f"--accelerator-type={accelerator}", f"--runtime-version={runtime}"),
    }


def test_create_passes_spot_and_more_flags(fakes):
    more = ["--create_flags=--network=a --subnetwork=b", "--runtime_version=r"]
    assert fakes.run("tpu_pod.sh", "create", *_SLICE, *_TPU, *more, "--yes")
    (call,) = fakes.calls()
    assert set(call[6:]) > {"--spot", "--network=a", "--subnetwork=b"}
    assert "--runtime-version=r" in call


def test_install_copies_the_last_commit_to_all_hosts(fakes):
    (fakes.home / "variables").write_text("A=1\n")
    given = [*_SLICE, "--env_file=variables"]
    done = fakes.run("tpu_pod.sh", "install", *given)
    assert done.returncode == 0, done.stderr
    code, variables, install = fakes.calls()
    assert code[4:7] == ["scp", code[5], "mine:cloob_jax.tar.gz"]
    assert variables[4:7] == ["scp", "variables", "mine:cloob_jax.env"]
    assert all("--worker=all" in call for call in (code, variables, install))
    shutil.copy(code[5], fakes.home / "cloob_jax.tar.gz")
    # On a host this would go on to install: the fakes are its pip.
    done = subprocess.run(
        ["bash", "-c", remote_command(install)], cwd=fakes.home, env=fakes.environment
    )
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    for path in ("cloob_jax/main.py", "constraints.txt", "configs/shapes_tiny.py"):
        assert path in listed
        assert (fakes.home / "cloob_jax" / path).exists()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("US-WEST4\\t", None),
        ("US\\tUS-CENTRAL1;US-WEST4", None),
        ("US-WEST1\\t", "gs://mine lies in us-west1, and the machines in us-west4"),
        ("US\\t", "gs://mine lies in us"),
        ("US\\tUS-WEST40;US-WEST1", "gs://mine lies in us us-west40 us-west1"),
    ],
)
def test_a_bucket_elsewhere_is_refused(fakes, location, message):
    fakes.answer(f'case "$*" in *buckets*) printf "{location}\\n" ;; esac')
    given = [*_SLICE, "--", *_RUN]
    done = fakes.run("tpu_pod.sh", "start", *given)
    asked = ["gcloud", "storage", "buckets", "describe", "gs://mine"]
    assert fakes.calls()[0][:5] == asked
    if message is None:
        assert done.returncode == 0, done.stderr
        assert "ssh" in fakes.calls()[-1]
        return
    assert done.returncode == 2
    assert message in done.stderr
    assert len(fakes.calls()) == 1
    done = fakes.run("tpu_pod.sh", "start", "--allow_other_region", *given)
    assert done.returncode == 0, done.stderr
    assert "is paid by the byte" in done.stdout


def test_every_bucket_is_asked_for_once(fakes):
    fakes.answer(_NEAR)
    data = "--config.data.train=gs://one/{0..9}.tar::gs://two/x,gs://mine/y"
    assert fakes.run("tpu_pod.sh", "start", *_SLICE, "--", *_RUN, data).returncode == 0
    asked = [call[4] for call in fakes.calls() if "buckets" in call]
    assert asked == ["gs://mine", "gs://one", "gs://two"]


def test_buckets_that_cannot_be_asked_for_are_refused(fakes):
    fakes.answer("exit 1")
    done = fakes.run("tpu_pod.sh", "start", *_SLICE, "--", *_RUN)
    assert done.returncode == 2
    assert "gs://mine: gcloud cannot tell where it lies" in done.stderr
    other = ["--", *_RUN, "--config.data.train=s3://theirs/x.tar"]
    fakes.answer(_NEAR)
    done = fakes.run("tpu_pod.sh", "start", *_SLICE, *other)
    assert done.returncode == 2
    assert "s3://theirs lies in another cloud" in done.stderr


@pytest.mark.parametrize(("state", "asked"), [("ACTIVE", True), ("SUSPENDED", False)])
def test_status_asks_hosts_that_are_there(fakes, state, asked):
    fakes.answer(f'[[ "$*" != *describe* ]] || echo {state}')
    done = fakes.run("tpu_pod.sh", "status", *_SLICE)
    assert (done.returncode, done.stdout) == (0, f"{state}\n")
    assert any("ssh" in call for call in fakes.calls()) == asked
