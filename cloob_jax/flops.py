"""Floating-point operations of a function, by a walk over its jaxpr.

XLA's `cost_analysis` counts the body of a loop once, however often it runs, and a
partitioned program per device; this count is of the whole program.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

_PASSES = {jax.lax.Precision.HIGH: 3, jax.lax.Precision.HIGHEST: 6}


def count(function: Callable, *args: Any) -> int:
    """FLOPs of one call, whatever devices it is spread over.

    Counted are matrix products and convolutions, a multiplication and an addition
    each, as in the figures that are published of models; everything else (norms,
    activations, softmax, the optimiser) is a few per cent at most and runs on other
    units. A convolution's taps that fall on padding are not counted.

    A scan counts its body as often as it runs, a conditional its dearest branch, a
    manually sharded region all its devices. What `jax.checkpoint` computes again is
    in the jaxpr of a gradient, hence in the count. The body of a `while` whose length
    is known at run time only is counted once.

    Args:
      function: traceable or jitted.
      *args: arrays or `ShapeDtypeStruct`.
    """
    return _of_jaxpr(_traced(function, *args), _once)


def count_passes(function: Callable, *args: Any) -> int:
    """`count`, times the passes that each product takes through TPU matrix units.

    These multiply bfloat16. Products of float32 take one pass at JAX's default
    precision, three at HIGH and six at HIGHEST, in parts of bfloat16 (Henry et al.
    2019, arXiv 1904.06376).
    """
    return _of_jaxpr(_traced(function, *args), _num_passes)


def _traced(function: Callable, *args: Any) -> core.Jaxpr:
    return jax.jit(function).trace(*args).jaxpr.jaxpr


def _once(equation: core.JaxprEqn) -> int:
    del equation
    return 1


def _num_passes(equation: core.JaxprEqn) -> int:
    avals: list[Any] = [variable.aval for variable in equation.invars]
    if any(aval.dtype == jnp.bfloat16 for aval in avals):
        return 1
    precisions = equation.params["precision"] or ()
    return max((_PASSES.get(precision, 1) for precision in precisions), default=1)


def _of_jaxpr(jaxpr: core.Jaxpr, weight: Callable[[core.JaxprEqn], int]) -> int:
    return sum(_of_equation(equation, weight) for equation in jaxpr.eqns)


def _of_equation(
    equation: core.JaxprEqn, weight: Callable[[core.JaxprEqn], int]
) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return weight(equation) * _of_dot(equation)
    if name == "conv_general_dilated":
        return weight(equation) * _of_convolution(equation)
    inner = [_of_jaxpr(jaxpr, weight) for jaxpr in _jaxprs(params)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "shard_map":
        axes = params["newly_manual_axes"]
        return math.prod(params["mesh"].shape[axis] for axis in axes) * sum(inner)
    return sum(inner)


def _jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs that an equation calls."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _of_dot(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = _shape(equation.invars[0])
    terms = math.prod(left[axis] for axis in contracted)
    return 2 * terms * math.prod(_shape(equation.outvars[0]))


def _of_convolution(equation: core.JaxprEqn) -> int:
    params = equation.params
    numbers = params["dimension_numbers"]
    image, kernel = map(_shape, equation.invars)
    result = _shape(equation.outvars[0])
    batch, features, *positions = (result[axis] for axis in numbers.out_spec)
    _, inputs, *taps = (kernel[axis] for axis in numbers.rhs_spec)
    extents = [image[axis] for axis in numbers.lhs_spec[2:]]
    pairs = math.prod(
        _num_products(*axis)
        for axis in zip(
            positions,
            taps,
            extents,
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            strict=True,
        )
    )
    return 2 * batch * features * inputs * pairs


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _num_products(
    positions: int,
    taps: int,
    extent: int,
    stride: int,
    padding: tuple[int, int],
    input_dilation: int,
    kernel_dilation: int,
) -> int:
    """Along one axis: pairs of a result and a tap that meet at an input's element."""
    last = (extent - 1) * input_dilation
    places = (
        position * stride + tap * kernel_dilation - padding[0]
        for position in range(positions)
        for tap in range(taps)
    )
    return sum(0 <= place <= last and place % input_dilation == 0 for place in places)
