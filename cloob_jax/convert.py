"""Published weights in, and ours out, without the frameworks that made them.

    python -m cloob_jax.convert RN50.pt weights/rn50 --from=openai
    python -m cloob_jax.convert runs/mine weights/mine --from=cloob_jax --to=open_clip

DEST is made anew: a run directory (--to=cloob_jax) that `cloob_jax.load` and
`--config.init_from` take, or a folder that the other library loads. Nothing is
downloaded or uploaded.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cloob_jax import architecture, checkpoint, inference, run_directory, weights
from cloob_jax.command_line import Parser, clear_errors
from cloob_jax.errors import UserError
from cloob_jax.weights import names, table

_SOURCES = (*weights.READERS, "cloob_jax")
_TARGETS = ("cloob_jax", *weights.WRITERS)
_CAPTION = "a photo of a cat"


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments say; see the top of this file."""
    parser = Parser("python -m cloob_jax.convert", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a file or folder")
    parser.add_argument(
        "dest", type=Path, metavar="DEST", help="a folder, not there yet"
    )
    parser.add_argument("--from", required=True, choices=_SOURCES, dest="source_format")
    parser.add_argument("--to", default="cloob_jax", choices=_TARGETS)
    given = parser.parse_args(arguments)
    logging.set_verbosity(logging.FATAL)
    with clear_errors(f"nothing was written to {given.dest}"):
        _convert(given.source, given.dest, given.source_format, given.to)


def _convert(source: Path, dest: Path, source_format: str, to: str) -> None:
    if dest.exists() or dest.is_symlink():
        raise UserError(f"{dest} is there already; give another DEST, or remove it")
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if source_format == "cloob_jax":
        ours = inference.read(source)
    else:
        ours = _read(source, source_format)
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(ours.params))
    dest.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(dest.parent).free
    if needed > free:
        raise UserError(
            f"{dest} needs {needed / 1e6:.0f} MB, but the disk has "
            f"{free / 1e6:.0f} MB left"
        )
    beside = dest.parent / f".{dest.name}.{os.getpid()}"
    try:
        beside.mkdir()
        _write(ours, beside, to)
        print(_fingerprint(inference.Model(ours)))
        beside.rename(dest)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"wrote {dest}")


def _read(source: Path, source_format: str) -> weights.Ours:
    try:
        published = weights.READERS[source_format](source)
        encoders, _ = architecture.build(ConfigDict(published.config))
        abstract = inference.abstract_variables(encoders)
        tensors, naming = published.tensors, published.naming
        variables = names.from_state_dict(tensors, abstract, naming)
    except UserError as error:
        prefix = "" if str(source) in str(error) else f"{source}: "
        raise UserError(f"{prefix}{error} (--from={source_format})") from None
    not_finite = [name for name in tensors if not np.isfinite(tensors[name]).all()]
    if not_finite:
        raise UserError(f"{source}: {not_finite[0]} holds numbers that are not finite")
    print(table.mapping(variables, naming, tensors))
    print(_summary(published.config, tensors))
    params, stats = variables["params"], variables.get("batch_stats", {})
    return weights.Ours(published.config, params, stats, published.scalars)


def _write(ours: weights.Ours, folder: Path, to: str) -> None:
    if to != "cloob_jax":
        weights.WRITERS[to].write(ours, folder)
        variables = {"params": ours.params, "batch_stats": ours.batch_stats}
        print(table.mapping(variables, weights.WRITERS[to].naming))
        return
    run_directory.describe(folder, ours.config)
    item = {
        "params": {"model": ours.params, "objective": ours.scalars},
        "batch_stats": ours.batch_stats,
        "ema": None,
    }
    checkpoint.save_weights(folder / "checkpoints", item, ours.config)


def _summary(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> str:
    changed = sorted({str(t.dtype) for t in tensors.values()} - {"float32"})
    types = f"{', '.join(changed)} to float32" if changed else "all float32"
    model, objective = config["model"], config["objective"]
    activation = "QuickGELU" if model["quick_gelu"] else "GELU"
    scalars = ", ".join(
        f"{name} {objective[name]:.4f}"
        for name in ("inv_tau", "beta")
        if name in objective
    )
    return (
        f"{len(tensors)} tensors mapped ({types}), none left over, none missing\n"
        f"{model['name']}, {activation}, {config['data']['image_size']} pixels, "
        f"{model['context_length']} tokens; objective {objective['name']}, {scalars}"
    )


def _fingerprint(model: inference.Model) -> str:
    """The embeddings of one picture and one caption, for two people to compare."""
    size = model.image_size
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    red, green = (
        np.broadcast_to(ramp, (size, size)),
        np.broadcast_to(ramp, (size, size)).T,
    )
    picture = np.stack([red, green, 255 - red], axis=-1)
    image, text = model.encode_image(picture)[0], model.encode_text(_CAPTION)[0]

    def digits(embedding: np.ndarray) -> str:
        return " ".join(f"{value:+.4f}" for value in embedding[:8])

    return (
        f"fingerprint (the first 8 of {len(image)} numbers)\n"
        f"  a colour ramp       {digits(image)}\n"
        f"  {_CAPTION!r:18}  {digits(text)}\n"
        f"  their cosine        {float(image @ text):+.4f}"
    )


if __name__ == "__main__":
    main()
