"""Can a store that answers each request after 50 ms feed 3,000 images/s to a host?

    python benchmarks/far_store.py [--rate=3000] [--num_bytes=50000] [--latency=0.05]

A server of tars on loopback, in a process of its own, and a reader that takes what a
host reads in training, the encoded images and captions, in the order of windows, as
fast as it is asked to and no faster. Nothing is decoded: see input.py. Then some of the
same in a global order, whose every example is a request of its own.
"""

import argparse
import concurrent.futures
import io
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import record

_SERVER = Path(__file__).parent.parent / "tests/data/range_server.py"
_BATCH = 256


def main() -> None:
    """Prints a table and adds a line to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=int, default=3000, help="images a second")
    parser.add_argument("--num_bytes", type=int, default=50_000, help="of an image")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds")
    parser.add_argument("--records", type=int, default=64_000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--copies_gb", type=float, default=2, help="at most")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        shards = Path(folder, "shards")
        _write(shards, given.records, given.num_bytes)
        command = [sys.executable, _SERVER, shards, f"--latency={given.latency}"]
        server = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
        try:
            url = server.stdout.readline().decode().strip()
            rows = _measure(url, given, Path(folder, "cache/cloob_jax/pieces"))
        finally:
            server.kill()
            server.wait()
    for name in rows[0]:
        print(f"{name:<28}" + "".join(f"{row[name]!s:>12}" for row in rows))
    record.append("far_store", vars(given), rows)


def _measure(url: str, given: argparse.Namespace, copies: Path) -> list[dict]:
    from cloob_jax.data import near_copies, order, remote_files, sources

    near_copies.MAX_BYTES = int(given.copies_gb * 1e9)
    began = time.monotonic()
    source = sources.build(f"{url}/*.tar")
    indexing = time.monotonic() - began
    print(f"indexed {len(source)} records in {indexing:.1f} s")
    requests: list[int] = []
    fetch = remote_files.RemoteFile.fetch

    def counted(self: remote_files.RemoteFile, start: int, end: int) -> bytes:
        requests.append(end - start)
        return fetch(self, start, end)

    remote_files.RemoteFile.fetch = counted
    watch = _Watch(copies)
    print(f"memory before: {watch.most_memory / 1e6:.0f} MB")
    rows = []
    for shuffle, count in (("window", given.records), ("global", 2048)):
        requests.clear()
        remote_files.RemoteFile._recent.clear()
        numbers = order.shuffled(source, 0, shuffle)
        waits, seconds, num_bytes = _take(source, numbers, count, given)
        rows.append(
            {
                "shuffle": shuffle,
                "images": count,
                "images_per_second": round(count / seconds),  # after the first batch
                "first_batch_s": round(waits[0], 2),
                "waiting_after_it": round(sum(waits[1:]) / seconds, 3),
                "longest_wait_s": round(max(waits[1:]), 2),
                "requests": len(requests),
                "bytes_fetched_per_byte_used": round(sum(requests) / num_bytes, 3),
                "copies_mb": round(watch.most_copies / 1e6),
                "memory_mb": round(watch.most_memory / 1e6),
            }
        )
    return rows


def _take(source, numbers, count, given) -> tuple[list[float], float, int]:
    """Seconds that each batch was waited for, seconds in all, and bytes."""
    waits, num_bytes = [], 0
    with concurrent.futures.ThreadPoolExecutor(given.threads) as pool:

        def ask(batch: int) -> list:
            places = range(batch * _BATCH, (batch + 1) * _BATCH)
            return [pool.submit(lambda p: source[int(numbers[p])], p) for p in places]

        began = time.monotonic()
        ahead = [ask(0), ask(1)]
        for batch in range(count // _BATCH):
            start = time.monotonic()
            pairs = [future.result() for future in ahead.pop(0)]
            waits.append(time.monotonic() - start)
            num_bytes += sum(len(image) + len(caption) for image, caption in pairs)
            ahead.append(ask(batch + 2))
            due = began + waits[0] + (batch + 1) * _BATCH / given.rate
            time.sleep(max(0, due - time.monotonic()))
        for futures in ahead:
            for future in futures:
                future.cancel()
        return waits, time.monotonic() - began - waits[0], num_bytes


class _Watch:
    """The most that copies and this process's memory took."""

    def __init__(self, copies: Path):
        self._copies, self.most_copies = copies, 0
        threading.Thread(target=self._look, daemon=True).start()

    @property
    def most_memory(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _look(self) -> None:
        while True:
            time.sleep(0.5)
            try:
                sizes = [entry.stat().st_size for entry in os.scandir(self._copies)]
            except FileNotFoundError:
                continue
            self.most_copies = max(self.most_copies, sum(sizes))


def _write(folder: Path, num_records: int, num_bytes: int) -> None:
    folder.mkdir()
    noise = np.random.default_rng(0).bytes(num_bytes + num_records)
    per_shard = 10_000
    for shard in range(-(-num_records // per_shard)):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            numbers = range(
                shard * per_shard, min((shard + 1) * per_shard, num_records)
            )
            for number in numbers:
                image = noise[number : number + num_bytes]
                for end, content in (("jpg", image), ("txt", b"a caption")):
                    member = tarfile.TarInfo(f"{number:08d}.{end}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    main()
