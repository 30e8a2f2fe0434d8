"""Every command of README and docs, run as it stands there on data that is small.

A shell reads each line, with commands in the place of python and of what is not ours,
that note how they were called. Our commands are then run with these words, on a model
and data of the smallest kind; of what is not ours only the call is looked at.
"""

import ast
import io
import json
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import published_layouts as layouts
import pytest
from fake_commands import ROOT, FakeCommands
from forked import Forked
from PIL import Image
from test_captioned import write_tars
from test_convert import openai_state, random_variables
from test_labelled import write_set
from test_pipeline import jpeg
from test_tars import write_tar

import cloob_jax
from cloob_jax import evaluators
from configs import common

_PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "launch/README.md",
]
# tests/launch runs these, as well as launch/slurm.sbatch.
_LAUNCH = ("launch/tpu_pod.sh", "launch/gke/gke.sh")
# Not ours: that they are called as meant is seen by a person alone.
_OTHERS = "gcloud ssh-add docker sbatch git pip make"
# What the pages name, and what lies there instead.
_PLACES = {
    "00331}": "00001}",
    "gs://my-bucket": "data",
    "/data/tfds": "tfds",
    "/data": "data",
    "/shared": "shared",
    "--num_processes=4": "--num_processes=2",
}
_SMALL = {
    "model.dtype": "float32",
    "model.bn_groups": 1,
    "data.image_size": 32,
    "data.num_workers": 0,
    "batch_size": 8,
    "total_steps": 2,
    # The same for all: what is compiled for one serves the others.
    "optim.learning_rate": 1e-3,
    "optim.schedule": "cosine_restarts",
    "optim.warmup_steps": 1,
    "optim.num_cycles": 1,
    "log_steps": 1,
    "checkpoint_steps": 2,
}
_SMALL_PAIRS = {
    "data.train": "data/cc3m/{00000..00001}.tar",
}
_SMALL_SHAPES = {
    "data.shapes.num_train": 40,
    "data.shapes.num_test": 8,
    **{
        f"evals.{name}.root": ""
        for name in ("colour", "texture", "held_out", "captions", "spectrum")
    },
}


def blocks(kind):
    """The fenced blocks of a kind, of all pages."""
    for page in _PAGES:
        text = page.read_text()
        assert text.count("```") % 2 == 0, page
        for found, content in re.findall(r"^```(.*)\n([\s\S]*?)^```", text, re.M):
            assert found in ("", "python", "text"), f"{page.name}: {found}"
            if found == kind:
                yield page.name, content


def commands():
    """The lines of the blocks that say nothing of what they are, each once."""
    lines = {}
    for page, content in blocks(""):
        for line in content.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith(_LAUNCH):
                lines.setdefault(" ".join(line.split()), page)
    return [pytest.param(line, id=f"{page}: {line}") for line, page in lines.items()]


def small(words):
    """The arguments of a run, and those that make it small."""
    (path,) = (word.split("=")[1] for word in words if word.startswith("--config="))
    # The weights that runs start from are a residual network's.
    weights = any(word.startswith("--config.init_from=") for word in words)
    settings = {"model.name": "RN-tiny" if weights else "ViT-tiny"} | _SMALL
    settings |= _SMALL_SHAPES if "shapes" in path else _SMALL_PAIRS
    given = {word.split("=")[0] for word in words}
    flags = [f"--config.{field}={value}" for field, value in settings.items()]
    return [*words, *(flag for flag in flags if flag.split("=")[0] not in given)]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A checkout beside data sets, weights and runs, all of the smallest kind."""
    fakes = FakeCommands(tmp_path_factory.mktemp("docs"))
    home = fakes.home
    for name in ("configs", "launch", "benchmarks", "cloob_jax"):
        (home / name).symlink_to(ROOT / name)
    for name in _OTHERS.split():
        fakes.fake(name)
    (home / "tensorflow").mkdir()
    (home / "tensorflow/bin").symlink_to(home.parent / "bin")
    write_data(home / "data")
    for name in ("pairs.tsv", "pictures", "tfds"):
        (home / "data" / name).rename(home / name)
    state = openai_state(random_variables("RN-tiny"))
    layouts.write_openai(home / "RN50.pt", state)
    layouts.write_cloob(home / "cloob_rn50_yfcc_epoch_28.pt", state)
    run(fakes, "convert", ["RN50.pt", "weights/rn50", "--from=openai"])
    shutil.copytree(home / "weights/rn50", home / "weights/cloob_rn50")
    cc3m = ["--config=configs/cc3m_rn50.py"]
    measured = "--config.evals.imagenet.root=data/wds_imagenet1k"
    run(fakes, "main", small([*cc3m, "--workdir=runs/mine", measured]))
    for name in ("cloob", "clip"):
        shutil.copytree(home / "runs/mine", home / "runs" / name)
    diverged = small([*cc3m, "--workdir=runs/diverged", "--config.total_steps=9"])
    diverged += ["--config.optim.learning_rate=1e38", "--config.checkpoint_steps=1"]
    assert "autopsy" in run(fakes, "main", diverged, status=2)
    (found,) = (home / "runs/diverged/autopsy").iterdir()
    (home / "runs/mine/autopsy").mkdir()
    found.rename(home / "runs/mine/autopsy/1234")
    return fakes


def write_data(folder):
    rng = np.random.default_rng(0)
    (folder / "cc3m").mkdir(parents=True)
    for shard in range(2):
        members = []
        for name in range(1000 * shard, 1000 * shard + 8):
            # Of the size of the model that `prepare check` is asked about.
            drawn = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
            content = io.BytesIO()
            drawn.resize((240, 240)).save(content, "JPEG")
            members.append((f"{name:05}.jpg", content.getvalue()))
            members.append((f"{name:05}.txt", f"thing number {name}".encode()))
        write_tar(folder / f"cc3m/{shard:05}.tar", members)
        (folder / f"cc3m/{shard:05}_stats.json").write_text("{}")
    labels = [0, 1, 2, 0, 1, 2]
    for name in ("wds_imagenet1k", "birdsnap", "country211", "cifar10"):
        write_set(folder / name, labels)
    for name in ("imagenet2012", "imagenet_v2"):
        write_set(folder / "tfds" / name, labels)
    shutil.copytree(folder / "cifar10/test", folder / "cifar10/train")
    for name in ("mscoco_captions", "captions"):
        write_tars(folder / name, [[f"thing {number}"] for number in range(4)])
    (folder / "pictures").mkdir()
    rows = ["filepath\ttitle"]
    for number in range(4):
        (folder / f"pictures/{number}.jpg").write_bytes(jpeg(number))
        rows.append(f"pictures/{number}.jpg\tthing {number}")
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n")


def run(fakes, command, words, status=0):
    """Runs a command of ours in the project to its end; what it said."""
    return finish(start(fakes, command, words), status)


def start(fakes, command, words):
    # For the processes that it starts; its own number is set otherwise.
    one_device = {"JAX_NUM_CPU_DEVICES": "1"}
    return Forked(words, 1, one_device, command, fakes.home)


def finish(process, status=0):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    return output


def called(fakes, line):
    """What a shell that reads the line would call."""
    before = len(fakes.calls())
    done = subprocess.run(
        ["bash", "-euc", line],
        cwd=fakes.home,
        env=fakes.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), line
    return fakes.calls()[before:]


@pytest.mark.parametrize("line", commands())
def test_a_command_runs(project, line):
    for name, *words in called(project, line):
        if name == "python" and words[0] == "-m" and words[1] != "venv":
            package, _, command = words[1].partition(".")
            assert package == "cloob_jax"
            ours(project, command, words[2:])
        elif name == "python" and words[0] != "-m":
            script(words)
        else:
            others(name, words)


_done = []


def ours(project, command, words):
    if (command, words) in _done:  # by another line, as launch/local.sh is a short form
        return
    _done.append((command, words))
    for place, instead in _PLACES.items():
        words = [word.replace(place, instead) for word in words]
    _RUNNERS[command](project, words)


def run_main(project, words):
    words, workdir = elsewhere(project, small(words))
    address = [word for word in words if word.startswith("--coordinator_address=")]
    if any(word.startswith("--replay=") for word in words):
        assert "step 2 again" in run(project, "main", words)
        return
    if not address:
        run(project, "main", words)
        assert session(workdir)["ended"] == "finished"
        return
    words.remove(*address)
    words.remove("--process_id=0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = [f"--coordinator_address=127.0.0.1:{port}"]
    processes = [
        start(project, "main", [*words, *own, f"--process_id={number}"])
        for number in range(2)
    ]
    for process in processes:
        finish(process)
    assert session(workdir)["processes"] == 2


def elsewhere(project, words):
    """The words with a run directory that is new, and the directory."""
    workdir = project.home / "runs/of_the_page"
    shutil.rmtree(workdir, ignore_errors=True)
    words = [word for word in words if not word.startswith("--workdir=")]
    return [*words, f"--workdir={workdir}"], workdir


def session(workdir):
    (only,) = json.loads((workdir / "sessions.json").read_text())
    return only


def run_supervised(project, words):
    split = words.index("--") + 1
    flags, (words, workdir) = words[:split], elsewhere(project, small(words[split:]))
    run(project, "supervise", [*flags, *words])
    assert session(workdir)["ended"] == "finished"
    assert session(workdir)["processes"] == (2 if "--num_processes=2" in flags else 1)


def run_prepare(project, words):
    if "--beam" in words:
        runs_or_names("beam", start(project, "prepare", words))
        return
    # Half a minute of starting workers, which preparation/test_throughput does.
    words = [word for word in words if word != "--throughput"]
    assert re.search(r"\b(16|4) (records|pairs)\b", run(project, "prepare", words))


def run_evaluate(project, words):
    assert "\nwritten to " in run(project, "evaluate", words)


def run_convert(project, words):
    shutil.rmtree(project.home / words[1], ignore_errors=True)
    assert "fingerprint" in run(project, "convert", words)
    assert list((project.home / words[1]).iterdir())


def run_report(project, words):
    run(project, "report", words)
    page = project.home / "runs/mine/report.html"
    page = project.home / words[-1].split("=")[1] if "=" in words[-1] else page
    assert page.read_text().startswith("<!doctype html>")


def run_plan(project, words):
    # What it says with the compiler is tested in test_plan.
    words = [*words, "--config.model.name=ViT-tiny", "--config.batch_size=512"]
    runs_or_names("tpu", start(project, "plan", words))


def runs_or_names(extra, process):
    """It does what it is asked to, or says what has to be installed first."""
    output, _ = process.communicate(timeout=300)
    lacks = f"pip install 'cloob_jax[{extra}]'" in output
    assert process.returncode == (2 if lacks else 0), output


_RUNNERS = {
    "main": run_main,
    "supervise": run_supervised,
    "prepare": run_prepare,
    "evaluate": run_evaluate,
    "convert": run_convert,
    "report": run_report,
    "plan": run_plan,
}


def script(words):
    """One of benchmarks/, which takes hours, or a program in the line itself."""
    if words[0] == "-c":
        ast.parse(words[1])
        return
    done = subprocess.run(
        [sys.executable, words[0], "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for word in words[1:]:
        name = word.split("=")[0]
        assert name in done.stdout, f"{words[0]} has no {word}"


def others(name, words):
    """What is not ours: its files and extras are there."""
    extras = re.findall(r"\.\[(\w+)\]|EXTRAS=([\w,]+)", " ".join(words))
    for extra in ",".join(filter(None, sum(extras, ()))).split(","):
        assert f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text() or not extra
    for word in words:
        if re.match(r"(launch|configs|constraints)[\w./]*$", word.split("=")[-1]):
            assert (ROOT / word.split("=")[-1]).exists(), word
    if name == "make":
        done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT)
        assert done.returncode == 0


def test_programs_of_the_pages_run(project, monkeypatch):
    monkeypatch.chdir(project.home)
    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    config = common.get_config().unlock()
    names = {"images": images, "config": config}
    found = [content for _, content in blocks("python")]
    assert len(found) == 2
    for content in found:
        for place, instead in _PLACES.items():
            content = content.replace(place, instead)
        exec(content, names)
    model = names["model"]
    assert isinstance(model, cloob_jax.inference.Model)
    assert np.asarray(model.encode_image(images)).shape == (2, 64)
    made = evaluators.build(dict(config.evals), beta=8.0)
    assert set(made) == {"imagenet", "probe"}
