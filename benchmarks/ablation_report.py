"""What an ablation found: a table, its contrasts beside the paper's, and a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

OBJECTIVES = {
    "clip": "InfoNCE",
    "hopfield_infonce": "InfoNCE + retrieval",
    "infoloob": "InfoLOOB",
    "cloob": "InfoLOOB + retrieval",
}

Values = Mapping[str, Sequence[float]]  # objective -> a figure's value for each seed

PANELS = {
    "zero_shot": "zero-shot top-1, %",
    "eigenvalues": "effective eigenvalues of 64",
    "ajne": "Ajne statistic (even: 0.25)",
    "gap": "modality gap",
}


class Figure(NamedTuple):
    """A figure of the evaluation: where it stands, and how it is shown."""

    panel: str
    label: str
    dataset: str
    task: str
    name: str
    scale: float = 1.0
    digits: int = 1


class Contrast(NamedTuple):
    """A difference of objectives, and its signs in the paper, 0 if it has none."""

    title: str
    plus: Sequence[str]
    minus: Sequence[str]
    zero_shot: int
    eigenvalues: int
    ajne: int


# Zero-shot: Fürst et al. 2022 (arXiv 2110.11316), on their ablation: each change alone
# lost on most tasks, both together won. The others: the bars at 128 epochs.
CONTRASTS = (
    Contrast("InfoLOOB - InfoNCE", ["infoloob"], ["clip"], -1, -1, -1),
    Contrast("retrieval, in InfoNCE", ["hopfield_infonce"], ["clip"], -1, 1, -1),
    Contrast("retrieval, in InfoLOOB", ["cloob"], ["infoloob"], 1, 1, -1),
    Contrast("both", ["cloob"], ["clip"], 1, 1, -1),
    Contrast(
        "interaction", ["cloob", "clip"], ["infoloob", "hopfield_infonce"], 1, 1, 0
    ),
)


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
        rows.append([f"{PANELS[figure.panel]}: {figure.label}", *cells])
    return markdown(["", *OBJECTIVES.values()], rows)


def contrasts(found: Mapping[Figure, Values]) -> str:
    rows = []
    for figure, values in found.items():
        cells = []
        for contrast in CONTRASTS:
            mean, half = interval(differences(contrast, values))
            said = verdict(mean, half, contrast._asdict().get(figure.panel, 0))
            cells.append(shown(mean, half, figure.digits, "+") + said)
        rows.append([f"{PANELS[figure.panel]}: {figure.label}", *cells])
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

    drawing, grid = plt.subplots(2, 2, figsize=(7.2, 5.6), layout="constrained")
    for axes, panel, letter in zip(grid.flat, PANELS, "abcd", strict=True):
        draw_panel(axes, {f.label: v for f, v in found.items() if f.panel == panel})
        axes.set_ylabel(PANELS[panel])
        axes.set_title(letter, loc="left", weight="bold")
        if panel == "zero_shot":
            axes.set_ylim(top=min(105, axes.get_ylim()[1]))  # shares end at 100
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
                seeds, values[objective], ".", ms=5, color=marks["color"], alpha=0.6
            )
    axes.set_xticks(range(len(shown)), list(shown))
    axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
