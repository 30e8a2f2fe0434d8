"""tpu_pod.sh with a gcloud that only notes what it is asked, and tpu_worker.sh."""

import shutil
import subprocess

import pytest
from fake_commands import ODD_ARGUMENTS, ROOT

_SLICE = ["--name=mine", "--zone=us-west4-a"]
_TPU = ["--accelerator=v5litepod-16", "--spot"]
_RUN = ["--config=configs/shapes_tiny.py", "--workdir=gs://mine/runs/a"]
_NEAR = 'case "$*" in *buckets*) printf "US-WEST4\\t\\n" ;; esac\n'
# The next line of a file for each look, the last one again and again.
_NEXT = """
next() {
  head -1 "$1"
  [[ $(wc -l < "$1") == 1 ]] || sed -i 1d "$1"
}
case "$*" in
  *buckets*) echo US-WEST4 ;;
  *queued-resources\\ list*) next "$HOME/slices" ;;
  *tpu_worker.sh\\ status*)
    answer=$(next "$HOME/runs")
    printf '%b\\n' "$answer"
    [[ $answer ]] ;;
esac
"""


def options(call):
    return {word for word in call if word.startswith("--")}


def command(call):
    """What gcloud's ssh would run on the hosts."""
    (found,) = (word for word in call if word.startswith("--command="))
    return found.removeprefix("--command=")


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
    assert options(call) == {
        *("--node-id=mine", "--zone=us-west4-a", "--project=p"),
        *(f"--accelerator-type={accelerator}", f"--runtime-version={runtime}"),
    }


def test_create_passes_spot_and_more_flags(fakes):
    more = ["--create_flags=--network=a --subnetwork=b", "--runtime_version=r"]
    assert fakes.run("tpu_pod.sh", "create", *_SLICE, *_TPU, *more, "--yes")
    (call,) = fakes.calls()
    assert options(call) > {"--spot", "--network=a", "--subnetwork=b"}
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
        ["bash", "-c", command(install)], cwd=fakes.home, env=fakes.environment
    )
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).split()
    for path in ("cloob_jax/main.py", "constraints.txt", "configs/shapes_tiny.py"):
        assert path in listed
        assert (fakes.home / "cloob_jax" / path).exists()


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
    host.answer(_NEAR.replace("*buckets*", "storage*"))
    given = [*_SLICE, "--allow_other_region", "--", *ODD_ARGUMENTS]
    done = host.run("tpu_pod.sh", "start", *given)
    assert done.returncode == 0, done.stderr
    host.answer('[[ ${0##*/} != sudo || $1 != tee ]] || cat > "$HOME/unit"')
    sent = command(host.calls()[-1])
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


def up(fakes, slices, runs, *more, answers=_NEXT):
    """What `up` did, as verbs, where the slice and the run go through these states."""
    (fakes.home / "slices").write_text("\n".join(slices) + "\n")
    (fakes.home / "runs").write_text("\n".join(runs) + "\n")
    fakes.answer(answers)
    fakes.fake("git")
    given = [*_SLICE, *_TPU, "--yes", "--poll_seconds=0", *more, "--", *_RUN]
    done = fakes.run("tpu_pod.sh", "up", *given)
    verbs = []
    for call in fakes.calls():
        if call[0] == "git":
            continue
        verb = call[4]
        if verb == "ssh":
            verb = command(call).split("tpu_worker.sh ")[1].split()[0]
        if verb not in ("gs://mine", "list", "status", "scp"):
            verbs.append(verb)
    return done, verbs


def test_up_creates_anew_after_preemption_until_the_run_has_finished(fakes):
    slices = ["", "mine WAITING_FOR_RESOURCES", *["mine ACTIVE"] * 5]
    slices += ["mine SUSPENDING", "mine SUSPENDED", "other ACTIVE", "mine ACTIVE"]
    # An empty answer: nothing is installed, or ssh fails.
    runs = [
        "",
        "a cloob_jax: running",
        "",
        r"a cloob_jax: finished\nb cloob_jax: running",
    ]
    runs += ["a cloob_jax: ending", "", "a cloob_jax: finished"]
    done, verbs = up(fakes, slices, runs)
    assert done.returncode == 0, done.stderr
    assert verbs == [
        *("create", "install", "start"),
        *("delete", "create", "install", "start", "delete"),
    ]
    assert "the run has finished; the slice is deleted" in done.stdout


@pytest.mark.parametrize(
    ("answer", "status", "verbs"),
    [
        ("a cloob_jax: failed with 2", 1, ["tail", "delete"]),
        ("a cloob_jax: stopped", 0, ["delete"]),
        ("a cloob_jax: finished", 0, ["delete"]),
    ],
)
def test_up_ends_as_the_run_does(fakes, answer, status, verbs):
    done, did = up(fakes, ["mine ACTIVE"], ["a cloob_jax: running", answer])
    assert (done.returncode, did) == (status, verbs)
    assert "the slice is deleted" in done.stdout


def test_up_starts_what_is_not_running_and_keeps_what_it_should(fakes):
    runs = ["a cloob_jax: stopped", "a cloob_jax: running", "a cloob_jax: finished"]
    done, did = up(fakes, ["mine ACTIVE"], runs, "--keep")
    assert (done.returncode, did) == (0, ["install", "start"])
    assert "stays, and costs until it is deleted" in done.stdout


def test_up_says_that_the_slice_cannot_be_had(fakes):
    done, did = up(fakes, ["mine FAILED"], [""])
    assert (done.returncode, did) == (1, ["delete"])
    assert "the slice cannot be had" in done.stdout


@pytest.mark.parametrize(
    ("slices", "fails", "expected", "last"),
    [
        ("mine ACTIVE", "scp", "begin has failed five times in a row", "delete"),
        ("", "create", "create has failed five times in a row; there is no", "create"),
    ],
)
def test_up_gives_up_on_what_fails_five_times(fakes, slices, fails, expected, last):
    more = f'case "$*" in *{fails}*) exit 1 ;; esac\n'
    done, verbs = up(fakes, [slices], [""], answers=_NEXT + more)
    assert done.returncode == 1
    assert expected in done.stdout
    assert verbs[-1] == last


def test_up_is_loud_where_the_slice_cannot_be_deleted(fakes):
    more = 'case "$*" in *delete*) exit 1 ;; esac\n'
    runs = ["a cloob_jax: finished"]
    done, verbs = up(fakes, ["mine ACTIVE"], runs, answers=_NEXT + more)
    assert "COULD NOT BE DELETED, AND COSTS" in done.stdout
