"""Slices of TPU pods by their names, such as `v5e:16x16`."""

import dataclasses
import math

from cloob_jax.chips import CHIPS, Chip
from cloob_jax.errors import UserError

_PLANES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_BELOW_A_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
# Chips of the largest slice of cubes of 4 x 4 x 4: each chip's page in Google's docs.
_MOST = {"v4": 4096, "v5p": 6144, "tpu7x": 9216}
_NAMES = ("v4", "v5e", "v5p", "v6e", "tpu7x")


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: chips of one kind in a grid.

    Attributes:
      chip: what it is made of.
      shape: chips along each dimension, two or three.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As users write it."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def num_chips(self) -> int:
        """In the slice."""
        return math.prod(self.shape)

    @property
    def num_devices(self) -> int:
        """JAX devices in the slice."""
        return self.num_chips * self.chip.devices_per_chip

    @property
    def link_bandwidth(self) -> float:
        """Bytes per second that a chip can receive over the links it has here.

        A chip has two links a dimension; where a dimension is two chips long both
        lead to the same neighbour and one of them is there, where it is one, none.
        """
        links = sum(min(size - 1, 2) for size in self.shape)
        return self.chip.link_bandwidth / 2 * links / (2 * len(self.shape))


def parse(name: str) -> Topology:
    """The slice of that name.

    Raises:
      UserError: there is no such chip, or none is sold in that shape.
    """
    kind, _, dimensions = name.strip().lower().partition(":")
    if kind not in _NAMES:
        raise UserError(
            f"--topology={name}: no TPU is called {kind!r}; expected "
            f"{', '.join(_NAMES)}, a colon and the shape, as in v5e:16x16"
        )
    sizes = dimensions.split("x")
    if kind in _MOST:
        exists = _is_solid(sizes, _MOST[kind])
        shapes = (
            f"{', '.join(_BELOW_A_CUBE)} and, in rising order, three multiples of 4 "
            f"with up to {_MOST[kind]} chips in all, as in {kind}:4x4x8"
        )
    else:
        exists, shapes = dimensions in _PLANES, ", ".join(_PLANES)
    if not exists:
        raise UserError(f"--topology={name}: the shapes of {kind} are {shapes}")
    return Topology(CHIPS[kind], tuple(map(int, sizes)))


def _is_solid(sizes: list[str], most: int) -> bool:
    if "x".join(sizes) in _BELOW_A_CUBE:
        return True
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        return False
    numbers = list(map(int, sizes))
    is_cubes = all(number > 0 and number % 4 == 0 for number in numbers)
    return is_cubes and numbers == sorted(numbers) and math.prod(numbers) <= most
