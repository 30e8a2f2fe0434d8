"""Write the pairs of SOURCE that can be used as a TFDS data set in the folder DEST."""

import argparse
import functools
import os
import re
from typing import Any

from etils import epath

from cloob_jax.errors import UserError
from cloob_jax.preparation import conversion

STAYS = conversion.STAYS
_VERSION = "1.0.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of every conversion, and its own."""
    conversion.add_arguments(parser)
    parser.add_argument("--name", default="my_pairs", help="of the data set")
    parser.add_argument("--split", default="train", help="which it is of")


def run(given: argparse.Namespace) -> None:
    """Writes DEST/NAME/1.0.0, which is a data set when all files are whole.

    Features are `image`, its bytes as they were, `caption`, a list of them if a record
    has several, and `key`. The files are not TFDS's own doing, but described by its
    `write_metadata`: a builder of its own keeps what it shuffles in memory, and past a
    gigabyte needs TensorFlow. The order is that of SOURCE.
    """
    for name, value in (("name", given.name), ("split", given.split)):
        if not re.fullmatch("[a-z][a-z0-9_]*", value):
            raise UserError(
                f"--{name}={value}: expected small letters, digits and underscores"
            )
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise UserError(
            "tfds needs tensorflow_datasets: pip install 'cloob_jax[tfds]'"
        ) from None
    dest = epath.Path(given.dest).expanduser()
    folder = dest / given.name / _VERSION
    files = f"{given.name}-{given.split}.array_record"
    result = conversion.convert(given, str(folder), files, _pack)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder,
        dataset_name=given.name,
        split=given.split,
        filetype_suffix="array_record",
    )
    split = tfds.core.SplitInfo(
        name=given.split,
        shard_lengths=result.lengths,
        num_bytes=sum(result.sizes),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(result.most_captions > 1),
        split_infos=[split],
        filename_template=template,
        check_data=False,
    )
    # A relative path would be taken for a name.
    where = dest if "://" in given.dest else os.path.abspath(dest)
    print(f"train on them with --config.data.train=tfds:{where}:{given.split}")


def _features(has_several: bool) -> Any:
    from tensorflow_datasets import features

    caption = features.Sequence(features.Text()) if has_several else features.Text()
    return features.FeaturesDict(
        {"key": features.Text(), "image": features.Image(), "caption": caption}
    )


@functools.cache
def _serializer() -> tuple[Any, Any]:
    from tensorflow_datasets.core import example_serializer

    # A single text, and a list of one, are the same bytes.
    features = _features(has_several=True)
    specification = features.get_serialized_info()
    return features, example_serializer.ExampleSerializer(specification)


def _pack(key: str, image: bytes, captions: list[str]) -> bytes:
    features, serializer = _serializer()
    example = {"key": key, "image": image, "caption": captions}
    encoded = serializer.get_tf_example(features.encode_example(example))
    # Else features come in an order that differs from process to process.
    return encoded.SerializeToString(deterministic=True)
