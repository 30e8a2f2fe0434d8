"""Axes: from values to places, and the numbers that stand beside them."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

_STEPS = (1.0, 2.0, 5.0, 10.0)
_RATIO = 50  # from which a logarithmic axis shows more
_SUFFIXES = ("", "k", "M", "G", "T")
LARGEST = 1e100  # in size: beyond are no measured values, and arithmetic overflows


@dataclasses.dataclass(frozen=True)
class Axis:
    """From values to places between 0 and 1.

    Attributes:
      low: the value at 0.
      high: the value at 1, above `low`.
      log: whether it is logarithmic; then both are above 0.
      percent: whether the values are shares, told in percent.
    """

    low: float
    high: float
    log: bool = False
    percent: bool = False

    def place(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Where values are; NaN where they are no number, or none that it can show."""
        if not self.log:
            return (values - self.low) / (self.high - self.low)
        above = np.where(values > 0, values, np.nan)
        width = math.log10(self.high) - math.log10(self.low)
        return (np.log10(above) - math.log10(self.low)) / width

    def ticks(self, count: int) -> list[tuple[float, str]]:
        """About `count` round values with their labels."""
        if self.log:
            return [(v, _plain(v)) for v in _log_ticks(self.low, self.high, count)]
        scale = 100.0 if self.percent else 1.0
        step = _round_step((self.high - self.low) * scale / count)
        first = math.ceil(self.low * scale / step - 1e-9)
        last = math.floor(self.high * scale / step + 1e-9)
        values = [number * step for number in range(first, last + 1)]
        unit = " %" if self.percent else ""
        labels = _labels(values, step)
        return [
            (v / scale, label + unit) for v, label in zip(values, labels, strict=True)
        ]


def fit(
    values: Float[np.ndarray, " n"],
    log: bool | None = False,
    percent: bool = False,
    margin: float = 0.05,
) -> Axis:
    """The axis for some values.

    Args:
      values: at least one finite; none beyond `LARGEST`.
      log: None: where all are above 0 and the largest is 50 times the smallest.
      percent: see `Axis`.
      margin: left free at both ends, as a share of the range.
    """
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if log is None:
        log = low > 1 / LARGEST and high > _RATIO * low
    if log:
        ratio = max(high / low, 1.1) ** margin
        return Axis(low / ratio, high * ratio, True, percent)
    size = max(abs(low), abs(high))
    # Where all are the same, the axis needs some width; so does what differs less than
    # numbers can tell apart.
    if high - low <= 1e-9 * size:
        free = 0.1 * size if size > 1e-100 else 0.01 if percent else 1.0
    else:
        free = margin * (high - low)
    return Axis(low - free, high + free, False, percent)


def number(value: float, percent: bool = False) -> str:
    """A value in four digits at most: 0.2289, 1734, 1.2e-5; shares in percent."""
    if not math.isfinite(value):
        return str(value)
    if percent:
        return f"{100 * value:.1f} %"
    if value and not 1e-3 <= abs(value) < 1e6:
        return _scientific(value)
    if value == int(value):
        return str(int(value))
    digits = max(3 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{digits}f}"


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in _STEPS if step * power >= least * (1 - 1e-9))


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    decades = last - first + 1
    if decades > 2:
        every = math.ceil(decades / count)
        return [10.0**n for n in range(first, last + 1, every)]
    some = [m * 10.0**n for n in range(first - 1, last + 1) for m in (1, 2, 5)]
    inside = [value for value in some if low <= value <= high]
    # Less than a factor of two or so: as on a linear axis.
    return inside if len(inside) > 1 else [v for v, _ in Axis(low, high).ticks(count)]


def _labels(values: list[float], step: float) -> list[str]:
    """Of round values: all with as many digits, and one suffix."""
    largest = max(map(abs, values), default=0.0)
    if largest < 1e-3 or largest >= 1e15:
        return [_scientific(value) if value else "0" for value in values]
    group = 0
    while largest >= (1000 if group else 10_000) and group < len(_SUFFIXES) - 1:
        group, largest, step = group + 1, largest / 1000, step / 1000
    digits = max(-math.floor(math.log10(step) + 1e-9), 0)
    scaled = (value / 1000.0**group for value in values)
    return [f"{v:.{digits}f}{_SUFFIXES[group]}" if v else "0" for v in scaled]


def _plain(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e5 else _scientific(value)


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
