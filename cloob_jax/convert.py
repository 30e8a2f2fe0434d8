"""Published weights in, and ours out, without the frameworks that made them.

    python -m cloob_jax.convert RN50.pt weights/rn50 --from=openai
    python -m cloob_jax.convert runs/mine weights/mine --from=cloob_jax --to=open_clip

DEST is made anew: a run directory (--to=cloob_jax) that `cloob_jax.load` and
`--config.init_from` take, or a folder that the other library loads. Nothing is
downloaded or uploaded.
"""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cloob_jax import (
    architecture,
    inference,
    objectives,
    run_directory,
    stored_weights,
    weights,
)
from cloob_jax.command_line import Parser, clear_errors, held_signals
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
    # As control-C, so that nothing half-written stays behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with clear_errors(f"nothing was written to {given.dest}"):
            _convert(given.source, given.dest, given.source_format, given.to)
    finally:
        signal.signal(signal.SIGTERM, before)


def _convert(source: Path, dest: Path, source_format: str, to: str) -> None:
    if dest.exists() or dest.is_symlink():
        raise UserError(f"{dest} is there already; give another DEST, or remove it")
    if not (source.is_file() or source.is_dir()):
        raise UserError(f"{source}: no such file or folder")
    if not os.fsencode(dest).isascii():
        try:
            os.fsencode(dest).decode()
        except UnicodeDecodeError:
            raise UserError("DEST is no valid UTF-8; give another name") from None
    if source_format == "cloob_jax":
        _, ours = inference.read(source)
    else:
        ours = _read(source, source_format)
    model = inference.Model(ours)
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(ours.params))
    dest.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(dest.parent).free
    if needed > free:
        raise UserError(
            f"{dest} needs {needed / 1e6:.0f} MB, but the disk has "
            f"{free / 1e6:.0f} MB left"
        )
    beside = dest.parent / f".{dest.name}.{os.getpid()}"
    beside.mkdir()
    try:
        # Orbax writes in threads, which have to end before the folder is removed.
        with held_signals():
            _write(ours, beside, to)
        print(_fingerprint(model))
        beside.rename(dest)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"wrote {dest}")


def _read(source: Path, source_format: str) -> weights.Ours:
    try:
        published = weights.READERS[source_format](source)
        config, tensors, naming = (
            published.config,
            published.tensors,
            published.naming,
        )
        objective = config["objective"]
        objectives.build(objective["name"], objective["inv_tau"], objective.get("beta"))
        encoders, _ = architecture.build(ConfigDict(config))
        abstract = architecture.abstract_variables(encoders)
        with np.errstate(over="ignore"):
            variables = names.from_state_dict(tensors, abstract, naming)
        for path, leaf in jax.tree.leaves_with_path(variables):
            if not np.isfinite(leaf).all():
                name = "/".join(names.names_of(path))
                raise UserError(f"{name} would hold numbers that are not finite")
    except UserError as error:
        prefix = "" if str(error).startswith(str(source)) else f"{source}: "
        raise UserError(f"{prefix}{error} (--from={source_format})") from None
    except (ArithmeticError, LookupError, MemoryError) as error:
        raise _unreadable(source, source_format, error) from None
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise _unreadable(source, source_format, error) from None
    print(table.mapping(variables, naming, tensors))
    print(_summary(published.config, tensors))
    params, stats = variables["params"], variables.get("batch_stats", {})
    return weights.Ours(published.config, params, stats, published.scalars)


def _unreadable(source: Path, source_format: str, error: Exception) -> UserError:
    """For files of the right format with things in them that make no sense."""
    detail = str(error).strip().splitlines() or [""]
    return UserError(
        f"{source}: damaged, or not what --from={source_format} means: "
        f"{type(error).__name__}: {detail[0][:200]}"
    )


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
    stored_weights.save(folder / "checkpoints", item, ours.config)


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
    if not np.isfinite([image, text]).all():
        raise UserError("the embeddings of these weights are not finite")

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
