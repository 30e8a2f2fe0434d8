"""Which steps stay, on rules written by hand; on disk: test_checkpoint."""

from cloob_jax.retention import Rule


def test_the_latest_every_nth_and_the_best():
    steps = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert Rule(2, None, {}).staying(steps) == {8, 9}
    assert Rule(1, 4, {}).staying(steps) == {4, 8, 9}
    assert Rule(1, None, {3: 0.9, 5: 0.9, 6: 0.1}).staying(steps) == {5, 9}
    assert Rule(1, None, {3: 0.9, 77: 1.0}).staying(steps) == {3, 9}
    assert Rule(20, 4, {1: 1.0}).staying(steps) == set(steps)
    assert Rule(3, None, {}).staying([]) == set()
