"""Running evaluators, and what remains of it: CLIP_benchmark's JSON and a table."""

from collections.abc import Mapping
from pathlib import Path

from cloob_jax import writers
from cloob_jax.evaluators.embedder import Embedder
from cloob_jax.evaluators.protocol import Evaluator
from cloob_jax.evaluators.retrieval import Retrieval
from cloob_jax.evaluators.zero_shot import ZeroShot

Results = dict[str, dict[str, float]]

# open_clip's names for CLIP_benchmark's figures.
_OPEN_CLIP = {"acc1": "top1", "acc5": "top5"}
_DIRECTIONS = {
    "image_retrieval_": "text_to_image_",
    "text_retrieval_": "image_to_text_",
}
_HEADLINES = ("acc1", "text_retrieval_recall@1", "image_retrieval_recall@1")
_HEADERS = {
    ZeroShot: [
        "zero-shot",
        "images",
        "classes",
        "chance %",
        "top-1 %",
        "top-5 %",
        "per class %",
    ],
    Retrieval: [
        "retrieval",
        "images",
        "to text R@1 %",
        "R@5 %",
        "R@10 %",
        "to image R@1 %",
        "R@5 %",
        "R@10 %",
    ],
}


def run_all(
    evaluators: Mapping[str, Evaluator],
    embedder: Embedder,
    *,
    directory: Path | None,
    model: str,
    pretrained: str,
) -> Results:
    """Runs every evaluator and writes one JSON each into `directory`.

    Args:
      evaluators: by the name of their data set.
      embedder: of the encoders.
      directory: such as `eval/STEP`; None: nothing is written.
      model: name of the architecture.
      pretrained: what distinguishes these weights, such as the run and the step.

    Returns:
      Data set -> figure -> value, shares between 0 and 1.
    """
    results: Results = {}
    for name, evaluator in evaluators.items():
        results[name] = dict(evaluator.run(embedder))
        if directory is None:
            continue
        task, weights = evaluator.task, pretrained.replace("/", "-")
        writers.write_json(
            directory / f"benchmark_{name}_{weights}_{model}_en_{task}.json",
            {
                "dataset": name,
                "model": model,
                "pretrained": pretrained,
                "task": task,
                "metrics": results[name],
                "language": "en",
            },
        )
    return results


def open_clip_names(results: Results) -> dict[str, float]:
    """The figures under the names that open_clip logs, each with its data set's."""
    return {
        f"val/{name}-{_open_clip_name(figure)}": value
        for name, figures in results.items()
        for figure, value in figures.items()
    }


def headline(results: Results) -> str:
    """One figure or two of each data set, for a line in the middle of a run."""
    parts = []
    for name, figures in results.items():
        shares = [f"{figures[f]:.1%}" for f in _HEADLINES if f in figures]
        parts.append(f"{name} {' / '.join(shares)}")
    return ", ".join(parts)


def tables(evaluators: Mapping[str, Evaluator], results: Results) -> str:
    """What a person reads at the end: one line for each data set, in percent."""
    rows: dict[type, list[list[str]]] = {ZeroShot: [], Retrieval: []}
    for name, figures in results.items():
        evaluator = evaluators[name]
        row = [name, f"{len(evaluator.dataset)}"]
        if isinstance(evaluator, ZeroShot):
            num_classes = len(evaluator.dataset.class_names)
            shares = [1 / num_classes, figures["acc1"], figures.get("acc5"), None]
            shares[3] = figures["mean_per_class_recall"]
            row.append(str(num_classes))
        else:
            shares = [
                figures[f"{found}_retrieval_recall@{k}"]
                for found in ("text", "image")
                for k in (1, 5, 10)
            ]
        row += ["-" if share is None else f"{100 * share:.1f}" for share in shares]
        rows[type(evaluator)].append(row)
    return "\n\n".join(
        writers.table(_HEADERS[kind], found) for kind, found in rows.items() if found
    )


def _open_clip_name(figure: str) -> str:
    for prefix, direction in _DIRECTIONS.items():
        if figure.startswith(prefix):
            return direction + figure.removeprefix(prefix).replace("recall@", "R@")
    return f"zeroshot-val-{_OPEN_CLIP.get(figure, figure)}"
