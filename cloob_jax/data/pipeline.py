"""From a source to batches, through Grain: shuffled, decoded, cropped, tokenised.

    records -> order.shuffled -> LoadPair (decode, crop, tokenise) -> this process's
            rows -> batches of uint8 images and int32 tokens

A batch also says which records it holds and which were bad, as plain numbers: these
cross process borders cheaply, and the names are looked up where they are needed.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Generator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags

from cloob_jax.data import augment, mixture, order, random_crop, workers
from cloob_jax.data.protocol import Source
from cloob_jax.errors import UserError
from cloob_jax.tokenizer import Tokenizer

HostBatch = dict[str, Any]  # NumPy arrays
_MAX_TRIES = 8
CROPS = {"fast": random_crop.fast, "pil": random_crop.pil}  # of `config.data.resize`


@dataclasses.dataclass(frozen=True)
class LoadPair(grain.transforms.RandomMap):
    """One record number to one training example, or to a substitute if it is bad.

    A bad record is replaced by another, drawn by the example's own random numbers: one
    position of the stream stays one example, and the same one on every machine.

    `resize` is the way to make the crop: one of `CROPS`, or `device`.
    """

    source: Source
    tokenizer: Tokenizer
    image_size: int
    resize: str = "fast"

    def random_map(self, record: int, rng: np.random.Generator) -> HostBatch:
        """The example at one position of the stream.

        Returns:
          `image` uint8 `[h, w, 3]`, `text` int32 `[l]`, `record` the record used,
          `bad` int64 `[8]` the records that had to be replaced, -1 where none; and
          `box` int32 `[2]`, see `random_crop.unresized`, if the device resizes.
        """
        bad = np.full(_MAX_TRIES, -1, np.int64)
        reason = ""
        for attempt in range(_MAX_TRIES):
            try:
                example = self.load(record, rng)
            except augment.BadRecord as error:
                bad[attempt], reason = record, str(error)
                others = mixture.alike(self.source, record)
                record = int(rng.integers(others.start, others.stop))
            else:
                number = np.int64(record)
                return {**example, "record": number, "bad": bad}
        shard, key = self.source.name(int(bad[-1]))
        raise UserError(
            f"{_MAX_TRIES} records drawn in a row are bad, the last is {shard} {key}: "
            f"{reason}; check that config.data.train points to image-caption pairs"
        )

    def load(self, record: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One record's crop and tokens; several captions: one is drawn.

        Raises:
          augment.BadRecord: the image or the caption cannot be used.
        """
        encoded, text = self.source[record]
        captions = augment.decode_captions(text)
        caption = captions[rng.integers(len(captions))]
        tokens = self.tokenizer(caption)[0]
        if self.resize == "device":
            image, box = random_crop.unresized(encoded, self.image_size, rng)
            return {"image": image, "box": box, "text": tokens}
        image = CROPS[self.resize](encoded, self.image_size, rng)
        return {"image": image, "text": tokens}

    def fault(self, record: int) -> augment.BadRecord:
        """Why a record is bad."""
        try:
            self.load(record, np.random.default_rng(0))
        except augment.BadRecord as error:
            return error
        return augment.BadRecord("read again", "and this time it could be used")


def train_batches(
    load: LoadPair,
    *,
    batch_size: int,
    examples_seen: int,
    seed: int,
    num_workers: int = 0,
    num_threads: int = 2,
    shuffle: str = "global",
    rows: np.ndarray | None = None,
    stall_seconds: int = 40,
    end: Callable[[BaseException], object] = lambda error: None,
) -> workers.Batches:
    """This process's rows of each global batch, for ever, from `examples_seen` on.

    Args:
      load: makes an example of a record number.
      batch_size: examples of a global batch.
      examples_seen: where in the stream to start.
      seed: of the order and of the crops.
      num_workers: worker processes; 0 decodes in threads of this process, which is
        as fast on two or three cores and starts at once.
      num_threads: threads in each worker, or in this process if there is none.
      shuffle: `global` or `window`, see `order.shuffled`.
      rows: of the global batch, ascending; see `local_rows`. None: all.
      stall_seconds: to wait for a worker or a thread that makes no example.
      end: called with the error where a thread is stuck, which nobody can end; by
        default it is waited for.
    """
    numbers = order.shuffled(load.source, seed, shuffle)
    dataset = numbers.random_map(load)[examples_seen:]
    places = order.places(batch_size, shuffle)
    dataset = _Rows(dataset, batch_size, places if rows is None else places[rows])
    batches = dataset.batch(batch_size if rows is None else len(rows))
    crew = workers.Crew(num_workers)
    iterable = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads + 2)
    )
    if num_workers:
        # Grain reads its absl flags, which nobody has parsed in a notebook or a test.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        options = grain.multiprocessing.MultiprocessingOptions(
            num_workers=num_workers, per_worker_buffer_size=2
        )
        iterable = iterable.mp_prefetch(options, worker_init_fn=crew.start)
    return workers.Batches(iter(iterable), crew, stall_seconds, end)


class _Rows(grain.MapDataset):
    """Some examples of every batch, as the processes together feed it.

    It comes after the random map, which is keyed on the position in the stream: before
    it, all processes would draw the same crops.
    """

    def __init__(self, parent: grain.MapDataset, batch_size: int, places: np.ndarray):
        super().__init__(parent)
        self._batch_size, self._places = batch_size, places

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * len(self._places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, number = divmod(index, len(self._places))
        example = self._parent[batch * self._batch_size + int(self._places[number])]
        workers.count_example()
        return example


def local_rows(batch: jax.ShapeDtypeStruct) -> np.ndarray:
    """The rows of a global batch that this process's devices hold, ascending.

    Processes that split the batch hold different ones, those that split a layer the
    same; which are whose, the mesh alone decides.

    Args:
      batch: of texts `[b, l]` or, in parts, `[a, b/a, l]`, whose rows are counted
        through; with its sharding.
    """
    numbers = _numbers(batch)
    places = batch.sharding.addressable_devices_indices_map(batch.shape).values()
    return np.unique([numbers[place[: numbers.ndim]] for place in places])


def _numbers(texts: jax.ShapeDtypeStruct) -> np.ndarray:
    rows = texts.shape[:-1]
    return np.arange(math.prod(rows)).reshape(rows)


def place_on_mesh(
    batches: workers.Batches,
    abstract_batch: dict[str, jax.ShapeDtypeStruct],
    ahead: int = 2,
) -> Generator[tuple[HostBatch, dict[str, jax.Array]], None, None]:
    """Pairs each host batch with its images and texts on the mesh, some steps ahead.

    Closing it closes `batches`, and with them their threads and processes.

    Args:
      batches: this process's rows, as `local_rows` counts them.
      abstract_batch: shapes and shardings of the global `image` and `text`.
      ahead: batches whose transfer is under way while earlier ones are used.
    """
    queue: collections.deque = collections.deque()
    texts = abstract_batch["text"]
    rows, numbers = local_rows(texts), _numbers(texts)

    def place(leaf: jax.ShapeDtypeStruct, local: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            where = np.searchsorted(rows, numbers[index[: numbers.ndim]])
            first, last = where.flat[0], where.flat[-1]
            if last - first + 1 == where.size:  # a run, which need not be copied
                return local[first : last + 1].reshape(*where.shape, *local.shape[1:])
            return local[where]

        return jax.make_array_from_callback(leaf.shape, leaf.sharding, part)

    try:
        for host in batches:
            arrays = {
                name: place(abstract_batch[name], host[name]) for name in abstract_batch
            }
            queue.append((host, arrays))
            if len(queue) > ahead:
                yield queue.popleft()
    finally:
        batches.close()
