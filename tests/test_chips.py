"""The table of chips against what can be known of it elsewhere."""

import pytest

from cloob_jax import chips


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v4", "v4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU7x", "tpu7x"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_devices_as_jax_names_them(kind, name):
    chip = chips.of_device_kind(kind)
    assert chip is not None and chip.name == name


@pytest.mark.parametrize("kind", ["cpu", "TPU v9", "NVIDIA H100 PCIe", ""])
def test_an_unknown_device_has_no_figures(kind):
    assert chips.of_device_kind(kind) is None


def test_no_device_is_two_chips():
    kinds = [kind for chip in chips.CHIPS.values() for kind in chip.device_kinds]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize("chip", chips.CHIPS.values(), ids=lambda chip: chip.name)
def test_figures_are_in_the_units_that_they_say(chip):
    # The chips of these years resemble one another so far that a slip of a unit would
    # fall out: FLOPs a byte of memory, bytes of memory a byte of links.
    assert 150 < chip.peak_flops / chip.hbm_bandwidth < 570
    assert 3 < chip.hbm_bandwidth / (chip.link_bandwidth / 2) < 13
    assert 10 * 2**30 < chip.hbm_bytes < 200 * 2**30
    assert chip.source.startswith("https://")
