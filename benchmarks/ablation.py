"""The ablation of the CLOOB paper: {InfoNCE, InfoLOOB} x {without, with retrieval}.

    python benchmarks/ablation.py shapes --data=data/shapes_2000
    python benchmarks/ablation.py cifar10 --data=FOLDER

Trains all four, one run after the other, on the same pairs in the same order from the
same parameters with the same temperature and beta, for each seed; prints what comes out
as Markdown and draws it. A finished run is not repeated, a stopped one goes on. Needs
the extra `notebooks`. FOLDER: see `configs/cifar10_tiny.py`.
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

import numpy as np
import record
from scipy import stats

_ROOT = Path(__file__).parent.parent
OBJECTIVES = {
    "clip": "InfoNCE",
    "hopfield_infonce": "InfoNCE + retrieval",
    "infoloob": "InfoLOOB",
    "cloob": "InfoLOOB + retrieval",
}

Values = Mapping[str, Sequence[float]]  # objective -> a figure's value for each seed


class Figure(NamedTuple):
    """A figure of the evaluation: where it stands, and how it is shown."""

    panel: str
    label: str
    dataset: str
    task: str
    name: str
    scale: float = 1.0
    digits: int = 1


class Study(NamedTuple):
    """Data, budget and figures; the flags hold for all four objectives."""

    config: str
    flags: Mapping[str, object]  # {data} in a value is the folder
    figures: Sequence[Figure]


class Contrast(NamedTuple):
    """A difference of objectives, and which sign it has in the paper, by panel."""

    title: str
    plus: Sequence[str]
    minus: Sequence[str]
    signs: Mapping[str, int]


ZERO_SHOT, EIGENVALUES = "zero-shot top-1, %", "effective eigenvalues of 64"
AJNE, GAP = "Ajne statistic", "modality gap"


def zero_shot(*datasets: str) -> list[Figure]:
    task = "zeroshot_classification"
    return [Figure(ZERO_SHOT, name, name, task, "acc1", 100) for name in datasets]


def spectrum(dataset: str) -> list[Figure]:
    here = dataset, "spectrum"
    both = [
        Figure(panel, side, *here, f"{side}_{name}")
        for panel, name in ((EIGENVALUES, "effective_eigenvalues"), (AJNE, "ajne"))
        for side in ("image", "text")
    ]
    return [*both, Figure(GAP, "gap", *here, "modality_gap", digits=2)]


STUDIES = {
    "shapes": Study(
        "shapes_tiny",
        {"data.shapes.num_train": 2000, "total_steps": 1000, "beta": 25.0},
        [*zero_shot("shape", "colour", "held_out"), *spectrum("captions")],
    ),
    "cifar10": Study(
        "cifar10_tiny",
        {
            "data.train": "{data}/train/[0-3].tar",
            "evals.spectrum.root": "{data}",
            "evals.spectrum.split": "train/4.tar",
        },
        [*zero_shot("cifar10"), *spectrum("spectrum")],
    ),
}

# Zero-shot: Fürst et al. 2022 (arXiv 2110.11316), on their ablation: each change alone
# lost on most tasks, both together won. The others: the bars at 128 epochs.
CONTRASTS = (
    Contrast(
        "InfoLOOB - InfoNCE",
        ["infoloob"],
        ["clip"],
        {ZERO_SHOT: -1, EIGENVALUES: -1, AJNE: -1},
    ),
    Contrast(
        "retrieval, with InfoNCE",
        ["hopfield_infonce"],
        ["clip"],
        {ZERO_SHOT: -1, EIGENVALUES: 1, AJNE: -1},
    ),
    Contrast(
        "retrieval, with InfoLOOB",
        ["cloob"],
        ["infoloob"],
        {ZERO_SHOT: 1, EIGENVALUES: 1, AJNE: -1},
    ),
    Contrast(
        "CLOOB - InfoNCE",
        ["cloob"],
        ["clip"],
        {ZERO_SHOT: 1, EIGENVALUES: 1, AJNE: -1},
    ),
    Contrast(
        "interaction",
        ["cloob", "clip"],
        ["infoloob", "hopfield_infonce"],
        {ZERO_SHOT: 1, EIGENVALUES: 1},
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--data", required=True, help="folder of the pairs")
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
    print(f"\n{table(found)}\n\n{contrasts(found)}\n")
    draw(found, given.figure or _ROOT / "docs" / f"ablation_{given.study}.png")
    settings = {"study": given.study, "seeds": given.seeds, "flags": dict(study.flags)}
    rows = [
        {"figure": f"{f.dataset} {f.name}", **values} for f, values in found.items()
    ]
    record.append("ablation", settings, rows)


def train(study: Study, data: str, objective: str, seed: int, runs: Path) -> None:
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
    command += [f"--config=configs/{study.config}.py:{data}"]
    command += [
        f"--config.{field}={str(value).format(data=data)}"
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


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half the width of its 95 % t interval; nan for a single value."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * error)


def differences(contrast: Contrast, values: Values) -> np.ndarray:
    """The contrast for each seed, whose runs share their parameters and order."""
    plus = np.sum([values[objective] for objective in contrast.plus], axis=0)
    return plus - np.sum([values[objective] for objective in contrast.minus], axis=0)


def verdict(mean: float, half: float, sign: int) -> str:
    """What the interval of a difference says of the sign that the paper gives it."""
    if sign == 0:
        return ""
    if not abs(mean) > half:
        return ", open"
    return ", met" if mean * sign > 0 else ", against"


def table(found: Mapping[Figure, Values]) -> str:
    rows = []
    for figure, values in found.items():
        cells = (shown(*interval(values[o]), figure.digits) for o in OBJECTIVES)
        rows.append([f"{figure.panel}: {figure.label}", *cells])
    return markdown(["", *OBJECTIVES.values()], rows)


def contrasts(found: Mapping[Figure, Values]) -> str:
    rows = []
    for figure, values in found.items():
        cells = []
        for contrast in CONTRASTS:
            mean, half = interval(differences(contrast, values))
            said = verdict(mean, half, contrast.signs.get(figure.panel, 0))
            cells.append(shown(mean, half, figure.digits, "+") + said)
        rows.append([f"{figure.panel}: {figure.label}", *cells])
    return markdown(["", *(contrast.title for contrast in CONTRASTS)], rows)


def shown(mean: float, half: float, digits: int, sign: str = "") -> str:
    spread = "" if np.isnan(half) else f" ± {half:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{spread}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# Colour is the objective, shape and filling the retrieval; colours of Okabe and Ito.
_MARKS = {
    "clip": {"color": "#0072B2", "marker": "o", "markerfacecolor": "white"},
    "hopfield_infonce": {"color": "#0072B2", "marker": "s"},
    "infoloob": {"color": "#D55E00", "marker": "o", "markerfacecolor": "white"},
    "cloob": {"color": "#D55E00", "marker": "s"},
}


def draw(found: Mapping[Figure, Values], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    panels = list(dict.fromkeys(figure.panel for figure in found))
    drawing, grid = plt.subplots(
        2, 2, figsize=(7.2, 5.6), layout="constrained", squeeze=False
    )
    for axes, panel in zip(grid.flat, panels, strict=True):
        shown = {f.label: values for f, values in found.items() if f.panel == panel}
        draw_panel(axes, shown)
        axes.set_ylabel(panel)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    drawing.legend(handles, labels, ncols=4, loc="outside upper center", frameon=False)
    drawing.savefig(file, dpi=200)
    print(f"drew {file}")


def draw_panel(axes, shown: Mapping[str, Values]) -> None:
    """For each figure the four side by side: mean, 95 % interval, and each seed."""
    for place, (objective, title) in enumerate(OBJECTIVES.items()):
        where = np.arange(len(shown)) + 0.18 * (place - 1.5)
        means, halves = zip(
            *(interval(v[objective]) for v in shown.values()), strict=True
        )
        marks = _MARKS[objective]
        axes.errorbar(where, means, halves, ls="", capsize=3, label=title, **marks)
        for x, values in zip(where, shown.values(), strict=True):
            seeds = np.full(len(values[objective]), x + 0.06)
            axes.plot(
                seeds, values[objective], ".", ms=3, color=marks["color"], alpha=0.6
            )
    axes.set_xticks(range(len(shown)), list(shown))
    axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    main()
