"""The bound of a step, by hand."""

import pytest

from cloob_jax.planning import roofline, topology


def facts(flops=0.0, hbm_bytes=0, received=0.0):
    moved = {"count": 1, "bytes": 1, "received_bytes": received}
    return {
        "executed_passes": flops,
        "model_flops": flops / 2,
        "hbm_bytes": hbm_bytes,
        "collectives": {"all-gather": moved},
    }


def test_the_longest_of_three_limits_the_step():
    where = topology.parse("v5e:4x4")  # 197 TFLOP/s, 819 GB/s, 4 x 50 GB/s
    bound = roofline.of_step(facts(16 * 197e12, 819 * 10**9 // 2, 50e9), where)
    assert (bound.compute, bound.memory, bound.links) == pytest.approx((1, 0.5, 0.25))
    assert bound.limit == "compute" and bound.seconds == bound.compute
    assert bound.mfu == pytest.approx(0.5)  # half of what it does, it does again
    bound = roofline.of_step(facts(1e12, 10**9, 400e9), where)
    assert bound.limit == "links" and bound.seconds == pytest.approx(2)


def test_two_devices_share_the_memory_of_a_chip():
    where = topology.parse("tpu7x:2x2x1")
    bound = roofline.of_step(facts(4 * 2307e12, 7380 * 10**9), where)
    assert (bound.compute, bound.memory) == pytest.approx((1, 2))
