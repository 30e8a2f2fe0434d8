"""Running evaluators, and what remains of it: CLIP_benchmark's JSON and a table."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cloob_jax import writers
from cloob_jax.evaluators import figures
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.protocol import Evaluator

Results = dict[str, dict[str, float]]

# open_clip's names for CLIP_benchmark's figures.
_OPEN_CLIP = {
    "acc1": "top1",
    "acc5": "top5",
    "mean_per_class_recall": "mean_per_class_recall",
}
_DIRECTIONS = {
    "image_retrieval_": "text_to_image_",
    "text_retrieval_": "image_to_text_",
}
_HEADLINES = (
    "acc1",
    "text_retrieval_recall@1",
    "image_retrieval_recall@1",
    "lp_acc1",
)


def run_one(
    evaluator: Evaluator,
    embedder: Embedder,
    *,
    directory: Path | None,
    model: str,
    pretrained: str,
) -> dict[str, float]:
    """Runs one evaluator and writes its JSON into `directory`.

    The JSON is CLIP_benchmark's, which `clip_benchmark build` reads; arrays, such as a
    spectrum, lie beside it in an `.npz` of the same name.

    Args:
      evaluator: what to run.
      embedder: of the encoders.
      directory: such as `eval/STEP`; None: nothing is written.
      model: name of the architecture.
      pretrained: what distinguishes these weights, such as the run and the step.

    Returns:
      Figure -> value, shares between 0 and 1.
    """
    found = dict(evaluator.run(embedder))
    scalars = {name: v for name, v in found.items() if not isinstance(v, np.ndarray)}
    if directory is not None:
        dataset, task = evaluator.dataset.name, evaluator.task
        content = {
            "dataset": dataset,
            "model": model,
            "pretrained": pretrained,
            "task": task,
            "metrics": scalars,
            "language": "en",
        }
        # A name may hold a slash, such as imagenetv2/topimages.
        stem = f"benchmark_{dataset}_{pretrained}_{model}_en_{task}".replace("/", "-")
        writers.write_json(directory / f"{stem}.json", content)
        arrays = {
            n: value for n, value in found.items() if isinstance(value, np.ndarray)
        }
        if arrays:
            writers.write_arrays(directory / f"{stem}.npz", arrays)
    return scalars


def open_clip_names(results: Results) -> dict[str, float]:
    """The figures under the names that open_clip logs, each with its data set's.

    Args:
      results: name of the data set -> figure -> value.
    """
    return {
        f"val/{name}-{_open_clip_name(figure)}": value
        for name, found in results.items()
        for figure, value in found.items()
        if not figures.is_interval(figure)
    }


def headline(results: Results) -> str:
    """One figure or two of each data set, for a line in the middle of a run."""
    parts = []
    for name, found in results.items():
        shares = [f"{found[f]:.1%}" for f in _HEADLINES if f in found]
        if shares:
            parts.append(f"{name} {' / '.join(shares)}")
    return ", ".join(parts)


def tables(evaluators: Mapping[str, Evaluator], results: Results) -> str:
    """What a person reads at the end: a table for each kind of evaluator."""
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for name, found in results.items():
        cells = evaluators[name].cells(found)
        kinds.setdefault(tuple(cells), []).append(list(cells.values()))
    return "\n\n".join(writers.table(header, rows) for header, rows in kinds.items())


def _open_clip_name(figure: str) -> str:
    for prefix, direction in _DIRECTIONS.items():
        if figure.startswith(prefix):
            return direction + figure.removeprefix(prefix).replace("recall@", "R@")
    for name, ours in _OPEN_CLIP.items():
        if figure == name or figure.startswith(name + "_"):
            return f"zeroshot-val-{ours}{figure.removeprefix(name)}"
    return figure
