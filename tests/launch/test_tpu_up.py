"""tpu_pod.sh up, where a slice and the run on it go through many states."""

import pytest
from fake_commands import remote_command

_SLICE = ["--name=mine", "--zone=us-west4-a", "--accelerator=v5litepod-16", "--spot"]
_RUN = ["--config=configs/shapes_tiny.py", "--workdir=gs://mine/runs/a"]
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
    [[ $answer && $answer != *unreachable* ]] ;;
esac
"""


def up(fakes, slices, runs, *more, answers=_NEXT):
    """What `up` did, as verbs, where the slice and the run go through these states."""
    (fakes.home / "slices").write_text("\n".join(slices) + "\n")
    (fakes.home / "runs").write_text("\n".join(runs) + "\n")
    fakes.answer(answers)
    fakes.fake("git")
    given = [*_SLICE, "--yes", "--poll_seconds=0", *more, "--", *_RUN]
    done = fakes.run("tpu_pod.sh", "up", *given)
    verbs = []
    for call in fakes.calls():
        if call[0] == "git":
            continue
        verb = call[4]
        if verb == "ssh":
            verb = remote_command(call).split("tpu_worker.sh ")[1].split()[0]
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
    # Where others are taken away, a host may think that all is well.
    runs += [r"a cloob_jax: finished\nb unreachable", "", "a cloob_jax: finished"]
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
    assert sum(fails in call for call in fakes.calls()) == 5


def test_up_is_loud_where_the_slice_cannot_be_deleted(fakes):
    more = 'case "$*" in *delete*) exit 1 ;; esac\n'
    runs = ["a cloob_jax: finished"]
    done, verbs = up(fakes, ["mine ACTIVE"], runs, answers=_NEXT + more)
    assert "COULD NOT BE DELETED, AND COSTS" in done.stdout
