"""Restarts, with processes that fail as they are told to."""

import signal
import subprocess
import sys

import pytest

from cloob_jax import supervise

# The place of cloob_jax.main: does what the next line of a file says.
_FAKE = """
import json, os, signal, sys, time
from pathlib import Path

workdir = Path(sys.argv[1])
plan = workdir / "plan"
first, _, rest = plan.read_text().partition("\\n")
plan.write_text(rest)
print("doing", first, flush=True)
for word in first.split():
    kind, _, value = word.partition("=")
    if kind == "save":
        (workdir / "checkpoints" / value).mkdir(parents=True)
    if kind == "exit":
        sys.exit(int(value))
    if kind == "kill":
        os.kill(os.getpid(), int(value))
    if kind == "finish":
        (workdir / "sessions.json").write_text(json.dumps([
            dict(number=1, began=0, seen=0, first_step=0, last_step=1, ended=value)
        ]))
    if kind == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(value)))
        print("ready", flush=True)
        time.sleep(60)
"""
_RUN = """
import sys
from cloob_jax import supervise
supervise._FIRST_PAUSE, supervise._LONGEST_PAUSE = 0.01, float(sys.argv[1])
workdir = sys.argv[2]
command = [sys.executable, "-c", sys.argv[3], workdir]
supervise._Supervisor._commands = lambda self: [command] * self._num_processes
supervise.main([*sys.argv[4:], "--", "--config=configs/x.py", "--workdir", workdir])
"""


def start(workdir, plan, *flags, pause=0.02):
    (workdir / "plan").write_text("\n".join(plan) + "\n")
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, str(pause), str(workdir), _FAKE, *flags],
        stderr=subprocess.PIPE,
        text=True,
    )


def run(workdir, plan, *flags):
    with start(workdir, plan, *flags) as process:
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors, (workdir / "plan").read_text().split("\n")[:-1]


def test_it_goes_on_until_the_run_is_finished(tmp_path):
    plan = ["kill=9", "save=20 exit=1", "finish=stopped", "finish=finished", "exit=1"]
    code, errors, left = run(tmp_path, plan)
    assert code == 0 and left == ["exit=1"]
    assert "process 0 was killed by SIGKILL; goes on from step 0" in errors
    assert "process 0 ended with status 1; goes on from step 20" in errors
    assert "training was stopped before its end; goes on from step 20" in errors
    [kept] = (tmp_path / "last_lines").iterdir()
    assert kept.name.endswith("_0.txt")
    assert "try 2, exit status 1\ndoing save=20 exit=1\n" in kept.read_text()


def test_a_mistake_is_not_made_twice(tmp_path):
    code, errors, left = run(tmp_path, ["exit=2", "finish=finished"])
    assert code == 2 and left == ["finish=finished"]


def test_it_gives_up_after_failures_without_a_new_checkpoint(tmp_path):
    plan = ["exit=1", "save=10 exit=1", "exit=1", "exit=1", "finish=finished"]
    code, errors, left = run(tmp_path, plan, "--max_failures=3")
    assert code == 1 and left == ["finish=finished"]
    [line] = [line for line in errors.splitlines() if "gave up" in line]
    assert "3 times without a checkpoint after step 10" in line
    assert str(tmp_path / "last_lines") in line


@pytest.mark.parametrize("status", [0, 1])
def test_a_signal_is_passed_on_and_ends_it(tmp_path, status):
    with start(tmp_path, [f"wait={status}", "exit=1"]) as process:
        while "ready" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == status
    assert (tmp_path / "plan").read_text() == "exit=1\n"


def test_a_signal_between_two_tries_ends_it(tmp_path):
    # After its first, short pause it waits for a minute.
    with start(tmp_path, ["exit=1", "exit=1", "exit=1"], pause=60.0) as process:
        supervise_says = [process.stderr.readline() for _ in range(4)]
        assert "in 0.02 s" in supervise_says[-1] or "in 0.01 s" in supervise_says[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--num_processes=0", "--", "--config=c.py"],
            "--num_processes=0: expected at",
        ),
        (["--max_failures=0", "--", "--config=c.py"], "--max_failures=0: expected at"),
        (["--num_processes=two", "--"], "invalid int value: 'two'"),
        (["--config=configs/shapes_tiny.py"], "--config"),
        (["--"], "--config is missing"),
        ([], "--config is missing"),
    ],
)
def test_mistakes_are_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as ended:
        supervise.main(flags)
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.count("\n") == 1 and message in errors


def test_each_process_gets_its_share_of_the_gpus(tmp_path, monkeypatch, capsys):
    def shares(count):
        return supervise._Supervisor([], tmp_path, count)._environments()

    monkeypatch.setattr(supervise, "_GPUS", tmp_path / "nowhere")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert shares(2) == [{}, {}]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [e["CUDA_VISIBLE_DEVICES"] for e in shares(2)] == ["4,5", "6,7"]
    assert shares(1) == [{}]
    with pytest.raises(supervise.UserError, match="does not divide the 4 GPUs"):
        shares(3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for name in ("a", "b"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(supervise, "_GPUS", tmp_path / "gpus")
    assert [e["CUDA_VISIBLE_DEVICES"] for e in shares(2)] == ["0", "1"]


def test_the_supervisor_has_no_jax():
    code = (
        "import sys; from cloob_jax import supervise; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_processes_are_joined_over_loopback(tmp_path):
    commands = supervise._Supervisor(["--config=x"], tmp_path, 2)._commands()
    address = commands[0][4]
    assert address.startswith("--coordinator_address=127.0.0.1:")
    assert [command[3:] for command in commands] == [
        ["--config=x", address, "--num_processes=2", f"--process_id={i}"]
        for i in range(2)
    ]
    assert supervise._Supervisor(["--a"], tmp_path, 1)._commands()[0][-1] == "--a"
