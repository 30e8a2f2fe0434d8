"""The ablation of the CLOOB paper: {InfoNCE, InfoLOOB} x {without, with retrieval}.

    python benchmarks/ablation.py shapes --data=data/shapes
    python benchmarks/ablation.py cifar10 --data=FOLDER

Trains all four, one run after the other, on the same pairs in the same order from the
same parameters with the same temperature and beta, for each seed; prints what comes out
as Markdown and draws it. A finished run is not repeated, a stopped one goes on; other
settings want another --runs. Needs the extra `notebooks`. FOLDER: see
`configs/cifar10_tiny.py`.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ablation_report
import record
from ablation_report import OBJECTIVES, Figure, Values

_ROOT = Path(__file__).parent.parent


class Study(NamedTuple):
    """Data, budget and figures; the flags hold for all four objectives."""

    config: str
    flags: Mapping[str, object]  # {data} in a value is the folder
    figures: Sequence[Figure]


def figures(tasks: Mapping[str, str], pairs: str, num_pairs: int) -> list[Figure]:
    zero_shot, spectrum = "zeroshot_classification", "spectrum"
    found = [
        Figure("zero_shot", label, dataset, zero_shot, "acc1", 100)
        for dataset, label in tasks.items()
    ]
    for panel, name, label in (
        ("eigenvalues", "effective_eigenvalues", "{}"),
        ("ajne", "ajne", f"{{}}, n = {num_pairs:,}"),
    ):
        found += [
            Figure(panel, label.format(side), pairs, spectrum, f"{side}_{name}")
            for side in ("image", "text")
        ]
    gap = Figure(
        "gap", "of images and texts", pairs, spectrum, "modality_gap", digits=2
    )
    return [*found, gap]


STUDIES = {
    "shapes": Study(
        "shapes_tiny",
        {
            "total_steps": 4000,
            # That of the config when the figures of docs/ablation.md were measured.
            "optim.learning_rate": 2e-3,
            "evals.texture.root": "",  # not learned in this time
            "evals.captions.root": "",  # retrieval: slower than it is telling
        },
        figures(
            {"shape": "shape", "colour": "colour", "held_out": "held-out pairs"},
            "captions",
            1000,
        ),
    ),
    "cifar10": Study(
        "cifar10_tiny",
        {
            "total_steps": 2000,
            "data.image_size": 32,
            # The fifth shard is kept for the spectrum: the test images lack captions.
            "data.train": "{data}/train/[0-3].tar",
            "evals.spectrum.root": "{data}",
            "evals.spectrum.split": "train/4.tar",
        },
        figures({"cifar10": "CIFAR-10, test"}, "spectrum", 5000),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--data", type=Path, required=True, help="folder of the pairs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, help="default: runs/ablation_STUDY")
    parser.add_argument("--figure", type=Path, help="default: docs/ablation_STUDY.png")
    given = parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("matplotlib is missing: pip install -e '.[notebooks]'")
    study = STUDIES[given.study]
    runs = given.runs or _ROOT / "runs" / f"ablation_{given.study}"
    for seed in given.seeds:  # all four of a seed before the next one
        for objective in OBJECTIVES:
            train(study, given.data, objective, seed, runs)
    found = collect(study, given.seeds, runs)
    print(f"\n{ablation_report.table(found)}\n\n{ablation_report.contrasts(found)}\n")
    file = given.figure or _ROOT / "docs" / f"ablation_{given.study}.png"
    ablation_report.draw(found, file)
    settings = {"study": given.study, "seeds": given.seeds, "flags": dict(study.flags)}
    rows = [
        {"figure": f"{f.dataset} {f.name}", **values} for f, values in found.items()
    ]
    record.append("ablation", settings, rows)


def train(study: Study, data: Path, objective: str, seed: int, runs: Path) -> None:
    """Runs `main`, unless the run has all figures already."""
    workdir = runs / f"{objective}-{seed}"
    if all(path(workdir, study, figure).is_file() for figure in study.figures):
        return
    flags = {
        "seed": seed,
        "objective.name": objective,
        "objective.inv_tau": 30.0,
        "objective.learn_inv_tau": False,
        "eval_steps": study.flags["total_steps"],
        **study.flags,
    }
    command = [sys.executable, "-m", "cloob_jax.main", f"--workdir={workdir.resolve()}"]
    command += [f"--config=configs/{study.config}.py:{data.resolve()}"]
    command += [
        f"--config.{field}={str(value).format(data=data.resolve())}"
        for field, value in flags.items()
    ]
    # The same programs for each seed.
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(runs.resolve() / "xla")
    }
    done = subprocess.run(command, cwd=_ROOT, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")


def path(workdir: Path, study: Study, figure: Figure) -> Path:
    """Where the evaluation at the end of a run writes a figure."""
    step = study.flags["total_steps"]
    name = f"benchmark_{figure.dataset}_{workdir.name}-{step}_RN-tiny_en_{figure.task}"
    return workdir / "eval" / str(step) / f"{name}.json"


def collect(study: Study, seeds: Sequence[int], runs: Path) -> dict[Figure, Values]:
    def read(objective: str, seed: int, figure: Figure) -> float:
        file = path(runs / f"{objective}-{seed}", study, figure)
        return figure.scale * json.loads(file.read_text())["metrics"][figure.name]

    return {
        figure: {o: [read(o, seed, figure) for seed in seeds] for o in OBJECTIVES}
        for figure in study.figures
    }


if __name__ == "__main__":
    main()
