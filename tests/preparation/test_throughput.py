"""What `prepare check --throughput` measures and chooses."""

import pytest
from test_rates import Slow

from cloob_jax.data.pipeline import LoadPair
from cloob_jax.preparation import throughput
from cloob_jax.preparation.throughput import Turn
from cloob_jax.tokenizer import Tokenizer
from cloob_jax.writers import Progress


def test_threads_that_wait_together_are_faster(monkeypatch):
    monkeypatch.setattr(throughput, "_BATCH_SIZE", 8)
    monkeypatch.setattr(throughput, "settings", lambda cores: [(0, 1), (0, 4)])
    load = LoadPair(Slow(), Tokenizer(), 32)
    turns = throughput.measure(load, 2, 0.1, Progress())
    one, four = (turn.rate for turn in turns)
    assert len(turns[0].rates) == 3 and one <= 200
    assert 1.5 * one < four
    assert throughput.best(turns) is turns[1]


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, {(0, 1), (0, 2), (1, 1)}),
        (2, {(0, 1), (0, 2), (1, 1), (2, 1)}),
        (16, {(0, 1), (0, 2), (0, 4), (8, 1), (14, 1), (16, 1)}),
    ],
)
def test_settings_reach_from_no_worker_to_all_cores(cores, expected):
    assert set(throughput.settings(cores)) == expected


def test_of_those_as_good_the_smallest_is_chosen():
    turns = [
        Turn(0, 1, [500.0]),
        Turn(0, 2, [980.0, 1.0, 2000.0]),
        Turn(2, 1, [1000.0]),
    ]
    assert throughput.best(turns) is turns[1]
    assert throughput.render(turns).endswith(
        "This machine can feed 980 images/s: "
        "--config.data.num_workers=0 --config.data.num_threads=2"
    )
    assert throughput.report(turns)["best"]["num_threads"] == 2
