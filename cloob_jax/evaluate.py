"""Evaluates a run, a step of it, or converted weights, on any data sets.

    python -m cloob_jax.evaluate --workdir=runs/mine
    python -m cloob_jax.evaluate --weights=weights/rn50 --data_dir=/data \\
        --tasks=imagenet1k,cifar10_linear_probe,mscoco_captions_retrieval

A task is a data set and what to measure on it: DATASET (zero-shot), DATASET_retrieval,
DATASET_linear_probe, DATASET_few_shot or DATASET_spectrum; without --tasks those of the
run's own config. Each task leaves one JSON in CLIP_benchmark's format.
"""

import contextlib
import sys
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from cloob_jax import evaluators, inference, stored_weights, writers
from cloob_jax.command_line import Parser, clear_errors, say
from cloob_jax.data import locations
from cloob_jax.errors import UserError
from cloob_jax.evaluators import results


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments say; see the top of this file."""
    logging.set_verbosity(logging.FATAL)
    with (
        clear_errors("results already written stay"),
        contextlib.closing(writers.Progress()) as progress,
    ):
        sys.exit(_evaluate(_parse(arguments), progress))


def _parse(arguments: list[str] | None) -> ConfigDict:
    summary, _ = __doc__.split("\n", 1)
    parser = Parser("python -m cloob_jax.evaluate", description=summary)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir", type=Path, help="a run, or RUN/checkpoints/STEP of it"
    )
    source.add_argument(
        "--weights", type=Path, dest="workdir", help="weights that convert wrote"
    )
    parser.add_argument(
        "--tasks", help="comma-separated, see above; default: those of the run's config"
    )
    parser.add_argument("--data_dir", help="a folder in which the data sets lie")
    parser.add_argument("--split", default="test", help="of the data sets")
    parser.add_argument(
        "--captions",
        help="of a retrieval or spectrum task whose pictures lie in "
        "--data_dir: Karpathy's or COCO's JSON, or Flickr's tokens",
    )
    parser.add_argument(
        "--output", type=Path, help="for the JSONs; default: eval/STEP in the run"
    )
    parser.add_argument("--batch_size", type=int, default=256, help="over all devices")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="of the computation",
    )
    return ConfigDict(vars(parser.parse_args(arguments)))


def _evaluate(given: ConfigDict, progress: writers.Progress) -> int:
    """Runs all tasks and prints their tables; the exit status."""
    step, weights = inference.read(given.workdir)
    model = inference.Model(weights, dtype=given.dtype, batch_size=given.batch_size)
    run, _ = stored_weights.run_and_step(given.workdir)
    tests = evaluators.build(
        _entries(given, model.config),
        beta=model.config.objective.get("beta") or evaluators.PUBLISHED_BETA,
        field="task {}".format,
    )
    embedder = model.embedder(report=progress.count)
    output = given.output or run / "eval" / str(step)
    output.mkdir(parents=True, exist_ok=True)  # if it cannot be, before all the work
    found, mistakes = {}, []
    for name, test in tests.items():
        try:
            found[name] = results.run_one(
                test,
                embedder,
                directory=output,
                model=model.config.model.name,
                pretrained=f"{run.resolve().name}-{step}",
            )
        except UserError as error:
            mistakes.append(f"task {name}: {error}")  # the other tasks go on
    progress.close()
    if found:
        print(results.tables(tests, found))
        print(f"\nwritten to {output}")
    for mistake in mistakes:
        say(mistake)
    return 2 if mistakes else 0


def _entries(given: ConfigDict, config: ConfigDict) -> dict[str, ConfigDict]:
    """What `config.evals` would hold for the tasks."""
    own = {n: entry for n, entry in config.get("evals", {}).items() if entry.root}
    if given.tasks is None:
        if not own:
            raise UserError(
                f"{given.workdir} names no data sets of its own; give --tasks, such as "
                "--tasks=cifar10,mscoco_captions_retrieval, and --data_dir"
            )
        return own
    tasks = [task.strip() for task in given.tasks.split(",")]
    return {task: _entry(task, given, own) for task in tasks}


def _entry(task: str, given: ConfigDict, own: dict[str, ConfigDict]) -> ConfigDict:
    if task in own and given.data_dir is None:
        return own[task]
    suffixes = [kind for kind in evaluators.KINDS if task.endswith(f"_{kind}")]
    kind = suffixes[0] if suffixes else "zero_shot"
    dataset = task.removesuffix(f"_{kind}")
    if not dataset:
        raise UserError(f"--tasks={given.tasks}: a task has no name")
    label = f"task {task} ({kind} of {dataset})"
    if given.data_dir is not None:
        is_list = given.captions and kind in ("retrieval", "spectrum")
        root = (
            given.data_dir
            if is_list
            else locations.find(label, dataset, given.data_dir)
        )
    elif dataset in own:
        root = own[dataset].root
    else:
        raise UserError(
            f"{label}: this run's config knows no such data set; give --data_dir, a "
            "folder in which it lies"
        )
    return ConfigDict(
        {
            "kind": kind,
            "dataset": dataset,
            "root": str(root),
            "split": given.split,
            "captions": given.captions or "",
        }
    )


if __name__ == "__main__":
    main()
