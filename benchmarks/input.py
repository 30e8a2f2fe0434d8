"""How many images a second the input feeds, next to OpenCLIP's loader and tf.data.

    python benchmarks/input.py --data=/tmp/pictures --pixels=500x375
    python benchmarks/input.py --data=/tmp/pictures --peers=/path/to/their/python

Draws pictures with the spectrum of photographs into tars once, and then takes turns, a
process each: read, decode, crop to 224, tokenise, batches of 256. --peers is a Python
with webdataset, open_clip_torch and tensorflow-cpu, see `input_peers.py`.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import record
from PIL import Image

_SIZE, _BATCH = 224, 256
_PICTURES, _SHARDS = 2000, 8
_OURS = {
    # name: data.resize, workers, threads of each
    "threads": ("fast", 0, 2),
    "workers": ("fast", 2, 1),
    "device": ("device", 0, 2),  # all but the resizing, which an accelerator does
    "exact": ("pil", 0, 2),
}
_PEERS = ("open_clip", "tfdata_antialias", "tfdata_aliased")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder to draw into")
    parser.add_argument("--pixels", default="256x256", help="of the pictures")
    parser.add_argument("--peers", help="a Python that has them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="of each turn")
    parser.add_argument("--turn", choices=list(_OURS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = draw(given.data / given.pixels, given.pixels)
    if given.turn:
        print(json.dumps(measure(given.turn, folder, given.seconds)))
        return
    ours = {
        name: [sys.executable, __file__, f"--turn={name}", f"--pixels={given.pixels}"]
        for name in _OURS
    }
    theirs = {
        name: [given.peers, str(Path(__file__).with_name("input_peers.py")), name]
        for name in _PEERS
        if given.peers
    }
    rates: dict[str, list[float]] = {name: [] for name in ours | theirs}
    for _ in range(given.rounds):
        for name, command in (ours | theirs).items():
            folder_flag = f"--data={given.data if name in ours else folder}"
            command = [*command, folder_flag, f"--seconds={given.seconds}"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
            rates[name].append(json.loads(done.stdout.splitlines()[-1]))
    rows = [
        {"who": name, "images_per_second": statistics.median(found), "all": found}
        for name, found in rates.items()
    ]
    print(f"| {given.pixels} | images/s, median | lowest to highest |\n|---|---|---|")
    for row in rows:
        spread = f"{min(row['all']):.0f} to {max(row['all']):.0f}"
        print(f"| {row['who']} | {row['images_per_second']:.0f} | {spread} |")
    settings = {"pixels": given.pixels, "rounds": given.rounds, "cpus": os.cpu_count()}
    record.append("input", settings, rows)


def draw(folder: Path, pixels: str) -> Path:
    """Tars of noise whose spectrum falls as that of photographs does."""
    if len(list(folder.glob("*.tar"))) == _SHARDS:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    width, height = map(int, pixels.split("x"))
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) + 1e-3
    for shard in range(_SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(_PICTURES // _SHARDS):
                white = np.fft.fft2(rng.normal(size=(4, height, width)))
                grey, *colour = np.fft.ifft2(white / frequency).real
                values = np.stack([grey + 0.3 * part for part in colour], -1)
                values -= values.min()
                image = Image.fromarray((255 * values / values.max()).astype(np.uint8))
                buffer = io.BytesIO()
                image.save(buffer, "JPEG", quality=90)
                caption = f"picture {number} of {shard}, a photo of noise in {width}"
                for ending, content in (
                    ("jpg", buffer.getvalue()),
                    ("txt", caption.encode()),
                ):
                    member = tarfile.TarInfo(f"{shard:05d}{number:04d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def measure(name: str, folder: Path, seconds: float) -> float:
    """Images a second of our pipeline, once it is running."""
    from cloob_jax.data import pipeline, sources
    from cloob_jax.tokenizer import Tokenizer

    resize, workers, threads = _OURS[name]
    load = pipeline.LoadPair(sources.build(str(folder)), Tokenizer(), _SIZE, resize)
    batches = pipeline.train_batches(
        load,
        batch_size=_BATCH,
        examples_seen=0,
        seed=0,
        num_workers=workers,
        num_threads=threads,
    )
    return rate(batches, seconds)


def rate(batches, seconds: float) -> float:
    """Images a second of batches of 256, the first four left out."""
    for _ in range(4):
        next(batches)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(batches)
        count += _BATCH
    result = count / (time.perf_counter() - start)
    if hasattr(batches, "close"):
        batches.close()
    return result


if __name__ == "__main__":
    main()
