"""What accelerator chips can do, as their makers publish it."""

import dataclasses

_TPU_DOCS = "https://docs.cloud.google.com/tpu/docs/"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/"
_TERA, _GIGA, _GIB = 1e12, 1e9, float(2**30)


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip; its peaks are of marketing's best day, reached by no program.

    Attributes:
      name: as in the name of a topology.
      peak_flops: per second, dense matrix products of bfloat16.
      hbm_bytes: of memory, as published.
      hbm_bandwidth: bytes per second.
      link_bandwidth: bytes per second to other chips over all links, both directions.
      device_kinds: what JAX calls its devices.
      source: where the figures stand.
      devices_per_chip: JAX devices that a chip shows as.
      usable_hbm_bytes: of one device, what XLA leaves to a program; None: unknown.
    """

    name: str
    peak_flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    device_kinds: tuple[str, ...]
    source: str
    devices_per_chip: int = 1
    usable_hbm_bytes: float | None = None


# The usable memory is what libtpu 0.0.42 names when a program needs more.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="v4",
            peak_flops=275 * _TERA,
            hbm_bytes=32 * _GIB,
            hbm_bandwidth=1200 * _GIGA,
            # Six links of 50 GB/s a direction: Jouppi et al. 2023, arXiv 2304.01433.
            link_bandwidth=600 * _GIGA,
            device_kinds=("TPU v4",),
            source=_TPU_DOCS + "v4",
            usable_hbm_bytes=30.75 * _GIB,
        ),
        Chip(
            name="v5e",
            peak_flops=197 * _TERA,
            hbm_bytes=16 * _GIB,
            hbm_bandwidth=819 * _GIGA,
            link_bandwidth=400 * _GIGA,
            device_kinds=("TPU v5 lite", "TPU v5e"),
            source=_TPU_DOCS + "v5e",
            usable_hbm_bytes=15.75 * _GIB,
        ),
        Chip(
            name="v5p",
            peak_flops=459 * _TERA,
            hbm_bytes=95 * _GIB,
            hbm_bandwidth=2765 * _GIGA,
            link_bandwidth=1200 * _GIGA,
            device_kinds=("TPU v5", "TPU v5p"),
            source=_TPU_DOCS + "v5p",
            usable_hbm_bytes=95.74 * _GIB,
        ),
        Chip(
            name="v6e",
            peak_flops=918 * _TERA,
            hbm_bytes=32 * _GIB,
            hbm_bandwidth=1638 * _GIGA,
            link_bandwidth=800 * _GIGA,
            device_kinds=("TPU v6 lite", "TPU v6e"),
            source=_TPU_DOCS + "tpu7x",
            usable_hbm_bytes=31.25 * _GIB,
        ),
        Chip(
            name="tpu7x",
            peak_flops=2307 * _TERA,
            hbm_bytes=192 * _GIB,
            hbm_bandwidth=7380 * _GIGA,
            link_bandwidth=1200 * _GIGA,
            device_kinds=("TPU7x",),
            source=_TPU_DOCS + "tpu7x",
            devices_per_chip=2,
            usable_hbm_bytes=94.75 * _GIB,
        ),
        Chip(
            name="A100-40GB",
            peak_flops=312 * _TERA,
            hbm_bytes=40 * _GIGA,
            hbm_bandwidth=1555 * _GIGA,
            link_bandwidth=600 * _GIGA,
            device_kinds=("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
            source=_NVIDIA + "a100/",
        ),
        Chip(
            name="A100",
            peak_flops=312 * _TERA,
            hbm_bytes=80 * _GIGA,
            hbm_bandwidth=2039 * _GIGA,
            link_bandwidth=600 * _GIGA,
            device_kinds=("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe"),
            source=_NVIDIA + "a100/",
        ),
        Chip(
            name="H100",
            peak_flops=989 * _TERA,
            hbm_bytes=80 * _GIGA,
            hbm_bandwidth=3350 * _GIGA,
            link_bandwidth=900 * _GIGA,
            device_kinds=("NVIDIA H100 80GB HBM3",),
            source=_NVIDIA + "h100/",
        ),
        Chip(
            name="H200",
            peak_flops=989 * _TERA,
            hbm_bytes=141 * _GIGA,
            hbm_bandwidth=4800 * _GIGA,
            link_bandwidth=900 * _GIGA,
            device_kinds=("NVIDIA H200",),
            source=_NVIDIA + "h200/",
        ),
    )
}


def of_device_kind(kind: str) -> Chip | None:
    """The chip of JAX's `device.device_kind`; None if it is not in the table."""
    found = (chip for chip in CHIPS.values() if kind in chip.device_kinds)
    return next(found, None)
