"""The order of examples: a function of (seed, examples seen) and of nothing else."""

import grain
import numpy as np


def shuffled(num_records: int, seed: int) -> grain.MapDataset:
    """An endless stream of record numbers: each epoch a new permutation of all.

    Element `i` is a pure function of (seed, i), at no cost in memory, so that a run
    continues at any example by slicing. Random maps after it are keyed in the same way.
    """
    # Grain takes seed + epoch for an epoch, so neighbouring seeds would share epochs.
    spaced = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return grain.MapDataset.range(num_records).seed(spaced).shuffle().repeat()
