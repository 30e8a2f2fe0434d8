"""OpenCLIP's loader and tf.data on the same tars, for `input.py --peers`.

OpenCLIP: its own `get_wds_dataset` and tokenizer, two workers; the transform is
torchvision's RandomResizedCrop(0.9 to 1), ToTensor and Normalize, written out on PIL.
tf.data: TFRecords, decode_and_crop_jpeg and a bicubic resize, with antialiasing or
without, AUTOTUNE, uint8, no tokenizer.
"""

import argparse
import itertools
import json
import math
import tarfile
import time
import types
from pathlib import Path

_SIZE, _BATCH = 224, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("who")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    make = open_clip_batches if given.who == "open_clip" else tfdata_batches
    batches = make(given.data, given.who.endswith("antialias"))
    for _ in range(4):
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < given.seconds:
        next(batches)
        count += _BATCH
    print(json.dumps(count / (time.perf_counter() - start)))


def open_clip_batches(folder: Path, antialias: bool):
    del antialias  # PIL always does
    import numpy as np
    import open_clip
    import torch
    from open_clip_train.data import get_wds_dataset
    from PIL import Image

    torch.set_num_threads(1)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]
    std = torch.tensor(open_clip.OPENAI_DATASET_STD)[:, None, None]
    rng = np.random.default_rng()

    def preprocess(image):
        left, top, width, height = crop(*image.size, rng)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC).convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return (pixels.to(torch.float32).div(255) - mean) / std

    tars = sorted(folder.glob("*.tar"))
    arguments = types.SimpleNamespace(
        train_data=f"{folder}/{{{tars[0].stem}..{tars[-1].stem}}}.tar",
        train_num_samples=2000,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=_BATCH,
        world_size=1,
        workers=2,
    )
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    loader = get_wds_dataset(arguments, preprocess, True, tokenizer=tokenizer)
    return itertools.chain.from_iterable(itertools.repeat(loader.dataloader))


def crop(width: int, height: int, rng) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop with OpenCLIP's scale."""
    for _ in range(10):
        area = width * height * rng.uniform(0.9, 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        tried = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if tried[0] <= width and tried[1] <= height:
            left = int(rng.integers(width - tried[0] + 1))
            return left, int(rng.integers(height - tried[1] + 1)), *tried
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def tfdata_batches(folder: Path, antialias: bool):
    import tensorflow as tf

    records = folder / "pictures.tfrecord"
    if not records.exists():
        with tf.io.TFRecordWriter(str(records)) as writer:
            for path in sorted(folder.glob("*.tar")):
                with tarfile.open(path) as tar:
                    for member in tar:
                        if member.name.endswith(".jpg"):
                            writer.write(tar.extractfile(member).read())

    def load(encoded):
        shape = tf.image.extract_jpeg_shape(encoded)
        begin, extent, _ = tf.image.sample_distorted_bounding_box(
            shape,
            tf.zeros([0, 0, 4]),
            area_range=(0.9, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], extent[:2]], 0)
        image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
        image = tf.image.resize(image, (_SIZE, _SIZE), "bicubic", antialias=antialias)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)

    dataset = tf.data.TFRecordDataset(str(records)).repeat().shuffle(1000)
    dataset = dataset.map(load, tf.data.AUTOTUNE).batch(_BATCH, drop_remainder=True)
    return iter(dataset.prefetch(tf.data.AUTOTUNE).as_numpy_iterator())


if __name__ == "__main__":
    main()
