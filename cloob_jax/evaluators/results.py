"""Running evaluators, and what remains of it: CLIP_benchmark's JSON and a table."""

from collections.abc import Mapping
from pathlib import Path

from cloob_jax import writers
from cloob_jax.evaluators.protocol import Embed
from cloob_jax.evaluators.zero_shot import ZeroShot

Results = dict[str, dict[str, float]]

# open_clip's names for CLIP_benchmark's figures.
_OPEN_CLIP = {"acc1": "top1", "acc5": "top5"}


def run_all(
    evaluators: Mapping[str, ZeroShot],
    embed_images: Embed,
    embed_texts: Embed,
    *,
    directory: Path | None,
    model: str,
    pretrained: str,
) -> Results:
    """Runs every evaluator and writes one JSON each into `directory`.

    Args:
      evaluators: by the name of their data set.
      embed_images: images to unit vectors.
      embed_texts: tokens to unit vectors.
      directory: such as `eval/STEP`; None: nothing is written.
      model: name of the architecture.
      pretrained: what distinguishes these weights, such as the run and the step.

    Returns:
      Data set -> figure -> value between 0 and 1.
    """
    results: Results = {}
    for name, evaluator in evaluators.items():
        results[name] = dict(evaluator.run(embed_images, embed_texts))
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
    """The figures under the names that open_clip logs."""
    return {
        f"val/{name}-zeroshot-val-{_OPEN_CLIP.get(figure, figure)}": value
        for name, figures in results.items()
        for figure, value in figures.items()
    }


def table(evaluators: Mapping[str, ZeroShot], results: Results) -> str:
    """What a person reads at the end: one line for each data set, in percent."""
    rows = []
    for name, figures in results.items():
        dataset = evaluators[name].dataset
        num_classes = len(dataset.class_names)
        shares = [1 / num_classes, figures["acc1"], figures.get("acc5"), None]
        shares[3] = figures["mean_per_class_recall"]
        cells = ["-" if share is None else f"{100 * share:.1f}" for share in shares]
        rows.append([name, str(len(dataset)), str(num_classes), *cells])
    header = ["zero-shot", "images", "classes", "chance %", "top-1 %", "top-5 %"]
    return writers.table([*header, "per class %"], rows)
