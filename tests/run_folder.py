"""Run directories as a run leaves them, and ones that nobody should trust."""

import json

import numpy as np
from PIL import Image

HOSTILE = (
    "\"><script>alert('x')</script><img src=http://example.com/x onerror=alert()>&lt;"
)

_NO_FIGURES = {"text": "x", "nan": float("nan"), "huge": 10**400, "null": None}


def write(path, *, learning_rate=1e-3, steps=300, batch_size=32, loss=2.0):
    """A run that was killed once and has finished."""
    config = {
        "model": {"name": "RN-tiny"},
        "objective": {"name": "cloob", "beta": None},
        "optim": {"learning_rate": learning_rate},
        "batch_size": batch_size,
        "total_steps": steps,
    }
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    rows = [
        {
            "step": step,
            "examples_seen": step * batch_size,
            "train/loss": loss * 100 / (100 + step),
            "train/lr": learning_rate,
            "train/samples_per_second": 200.0,
            "train/data_wait_fraction": 0.05,
        }
        for step in range(1, steps + 1)
    ]
    for step in (100, steps):
        share = {"val/colour-zeroshot-val-top1": 0.25 + step / 1000}
        rows.append({"step": step, "examples_seen": step * batch_size} | share)
        evaluate(
            path, step, "colour", "zeroshot_classification", acc1=0.25 + step / 1000
        )
    lines(path / "metrics.jsonl", rows)
    evaluate(path, steps, "captions", "spectrum", num_pairs=10.0)
    spectra = {"image_spectrum": 0.5 ** np.arange(8), "text_spectrum": np.ones(8)}
    np.savez(path / f"eval/{steps}/captions_spectrum.npz", **spectra)
    Image.new("RGB", (20, 10), "red").save(path / "samples.png")
    sessions = [session(1, 0, 120, None), session(2, 100, steps, "finished")]
    (path / "sessions.json").write_text(json.dumps(sessions))
    bad = {"reason": "loss spike", "metrics": {"loss": "9"}, "records": ["0.tar 7"]}
    lines(path / "bad_steps.jsonl", [{"step": 12} | bad])
    (path / "log.txt").write_text("the first line\nthe last line\n")
    return path


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def evaluate(path, step, dataset, task, **figures):
    folder = path / "eval" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    ends = {"acc1_ci95_low": 0.2, "acc1_ci95_high": 0.7} if "acc1" in figures else {}
    content = {"dataset": dataset, "task": task, "metrics": figures | ends}
    name = f"{dataset}_{task}"[:50].replace("/", "-")
    (folder / f"{name}.json").write_text(json.dumps(content))


def session(number, first, last, ended):
    began = 1.7e9 + 1000 * number
    seconds = {"start": 50.0, "step": 600.0, "data": 50.0, "save": 100.0}
    return {
        "number": number,
        "began": began,
        "seen": began + 800.0,
        "first_step": first,
        "last_step": last,
        "ended": ended,
        "message": "",
        "host": "host",
        "processes": 2,
        "devices": 8,
        "device_kind": "cpu",
        "seconds": seconds,
    }


def write_hostile(path):
    """A run with names that are HTML, and damage of every kind that came to mind."""
    path = write(path / HOSTILE.replace("/", "|"))
    config = {
        "model": {"name": HOSTILE, HOSTILE: None},
        "objective": {"name": "\x00\ud800\u202e", "none": {}},
        "total_steps": "soon",
        "long": HOSTILE * 50,
    }
    (path / "config.json").write_text(json.dumps(config))
    row = {"step": 1, HOSTILE: 1, "null": None, "true": True, "nested": {"a": 1}}
    row |= {"nan": float("nan"), "large": 1e308, "larger": 10**400, "text": "nan"}
    rows = [row | {"step": s, "spike": 1e9 * (s == 50) - 1} for s in range(99)]
    lines(path / "metrics.jsonl", rows)
    with (path / "metrics.jsonl").open("a") as file:
        file.write('garbage\n[1]\n{"step": "x"}\n{"loss": 1}\n' + "[" * 100_000)
        file.write('\n\xff\n{"step": 300, "train/lo')
    evaluate(path, 300, HOSTILE, HOSTILE, acc1=0.5, **{HOSTILE: 1.0} | _NO_FIGURES)
    for name, text in {"a": "{", "b": "[]", "c": '{"metrics": 1}'}.items():
        (path / f"eval/300/{name}.json").write_text(text)
    (path / "eval/notes").mkdir()
    (path / "eval/notes/a.json").write_text("{")
    (path / "eval/300/captions_spectrum.npz").write_bytes(b"PK\x03\x04nothing")
    (path / "samples.png").write_bytes(b"<svg onload=alert('x')></svg>")
    sessions = [session(1, 0, 120, HOSTILE) | {"message": HOSTILE, "host": HOSTILE}]
    (path / "sessions.json").write_text(json.dumps(sessions))
    bad = {"step": HOSTILE, "reason": HOSTILE, "metrics": {HOSTILE: HOSTILE}}
    lines(path / "bad_steps.jsonl", [bad | {"records": [HOSTILE]}, {"records": 3}])
    (path / "log.txt").write_bytes(b"\xff\x1b[31m" + HOSTILE.encode())
    return path
