"""Names of slices: those that exist, and those that do not."""

import pytest

from cloob_jax.errors import UserError
from cloob_jax.planning import topology


@pytest.mark.parametrize(
    ("name", "chips", "devices"),
    [
        ("v5e:1x1", 1, 1),
        ("v5e:16x16", 256, 256),
        ("v6e:2x4", 8, 8),
        ("v4:2x2x1", 4, 4),
        ("v5p:8x8x16", 1024, 1024),
        ("v5p:16x16x24", 6144, 6144),
        ("TPU7x:4x4x4", 64, 128),  # two devices a chip
    ],
)
def test_slices_that_exist(name, chips, devices):
    found = topology.parse(name)
    assert (found.num_chips, found.num_devices) == (chips, devices)
    assert found.name == name.lower()


@pytest.mark.parametrize(
    "name",
    ["", "v5e", "v9:2x2", "H100:2x2", "v5e:3x5", "v5e:32x32", "v5e:2x2x2", "v5e:16X",
     "v5p:16x16", "v5p:8x4x4", "v5p:0x4x4", "v4:16x16x24", "v5p:4x4x²", "v6e:-2x2"],
)  # fmt: skip
def test_slices_that_do_not_are_refused_with_those_that_do(name):
    with pytest.raises(UserError, match=f"--topology={name}: .*(2x2|v5e:16x16)"):
        topology.parse(name)


def test_links_are_those_that_the_shape_has():
    # A v5e has four links of 50 GB/s a direction. In a 2 x 2 it has two neighbours.
    assert topology.parse("v5e:16x16").link_bandwidth == 200e9
    assert topology.parse("v5e:2x2").link_bandwidth == 100e9
    assert topology.parse("v5e:2x4").link_bandwidth == 150e9
    assert topology.parse("v5e:1x1").link_bandwidth == 0
