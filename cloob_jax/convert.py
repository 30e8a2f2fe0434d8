"""Published weights in, and ours out, without the frameworks that made them.

    python -m cloob_jax.convert RN50.pt weights/rn50 --from=openai
    python -m cloob_jax.convert runs/mine weights/mine --from=cloob_jax --to=open_clip

DEST is made anew: a run directory (--to=cloob_jax) that `cloob_jax.load` and
`--config.init_from` take, or a folder that the other library loads. Nothing is
downloaded or uploaded.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cloob_jax import architecture, checkpoint, inference, run_directory, weights
from cloob_jax.command_line import Parser, clear_errors
from cloob_jax.errors import UserError
from cloob_jax.weights import names
from cloob_jax.weights.names import Naming, Place

_SOURCES = (*weights.READERS, "cloob_jax")
_TARGETS = ("cloob_jax", *weights.WRITERS)
_CAPTION = "a photo of a cat"
# Of a layer or block: in `layer1.0.bn1`, `layer1_0/bn1`, `blocks[0]/ln_1`.
_NUMBER = re.compile(r"((?<=\.)\d+(?=\.)|(?<=layer\d_)\d+|(?<=layer_)\d+|(?<=\[)\d+)")


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
    print(_table(variables, naming, tensors))
    print(_summary(published.config, tensors))
    params, stats = variables["params"], variables.get("batch_stats", {})
    return weights.Ours(published.config, params, stats, published.scalars)


def _write(ours: weights.Ours, folder: Path, to: str) -> None:
    if to != "cloob_jax":
        weights.WRITERS[to].write(ours, folder)
        variables = {"params": ours.params, "batch_stats": ours.batch_stats}
        print(_table(variables, weights.WRITERS[to].naming))
        return
    run_directory.describe(folder, ours.config)
    item = {
        "params": {"model": ours.params, "objective": ours.scalars},
        "batch_stats": ours.batch_stats,
        "ema": None,
    }
    checkpoint.save_weights(folder / "checkpoints", item, ours.config)


def _table(variables: Any, naming: Naming, tensors: dict | None = None) -> str:
    """Which tensor is which array of ours, numbered ones of one shape in one line."""
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for ours, array, place in _pairs(variables, naming):
        kind = "float32" if tensors is None else str(tensors[place.name].dtype)
        there, here = _NUMBER.sub("#", place.name), _NUMBER.sub("#", ours)
        sizes = _times(_shape_there(array, place)), _times(array)
        key = (there, sizes[0], kind, here, sizes[1])
        groups.setdefault(key, []).append((place.name, ours))
    rows = [("tensor", "shape", "type", "array", "shape, float32")]
    for (_, size, kind, _, array_size), pairs in groups.items():
        names_there, names_here = zip(*pairs, strict=True)
        rows.append((_ranges(names_there), size, kind, _ranges(names_here), array_size))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _pairs(
    variables: Any, naming: Naming
) -> Iterator[tuple[str, tuple[int, ...], Place]]:
    """Name, shape and place of every array, the layers of transformers one by one."""
    shapes = {path: leaf.shape for path, leaf in jax.tree.leaves_with_path(variables)}
    for path, places in names.places(variables, naming):
        name, shape = "/".join(names.names_of(path)), shapes[path]
        if "blocks" not in names.names_of(path):
            yield name, shape, places[0]
            continue
        for layer, place in enumerate(places):
            yield name.replace("blocks", f"blocks[{layer}]"), shape[1:], place


def _shape_there(array: tuple[int, ...], place: Place) -> tuple[int, ...]:
    shape = [array[place.axes.index(axis)] for axis in range(len(array))]
    return (3 * shape[0], *shape[1:]) if place.third is not None else tuple(shape)


def _ranges(names: tuple[str, ...]) -> str:
    """`a.{0..11}.b` for names that differ in their numbers."""
    parts = [_NUMBER.split(name) for name in names]
    merged = []
    for values in zip(*parts, strict=True):
        numbers = sorted({int(v) for v in values if v.isdigit()})
        is_one = len(set(values)) == 1
        merged.append(values[0] if is_one else f"{{{numbers[0]}..{numbers[-1]}}}")
    return "".join(merged)


def _times(shape: Any) -> str:
    return "x".join(map(str, shape)) or "1"


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
