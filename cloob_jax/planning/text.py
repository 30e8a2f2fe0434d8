"""A plan as people read it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cloob_jax.writers import table

_GIB = 2**30
_LIMITS = {
    "compute": "executed passes at the peak",
    "memory": "traffic with HBM",
    "links": "collectives over all links",
}


def render(plan: Mapping[str, Any]) -> str:
    """The whole plan in a screen of text."""
    parts = [_lines(_what(plan) + _memory(plan) + _flops(plan))]
    if plan["fits"]:
        parts += [_collectives(plan), _bounds(plan), _lines(_result(plan))]
    return "\n\n".join(parts)


def _lines(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows)


def _what(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    chips, devices, batch = plan["num_chips"], plan["num_devices"], plan["batch_size"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    count = plan["num_parameters"] / 1e6
    steps = plan["accumulate_steps"]
    parts = f", in {steps} parts" if steps > 1 else ""
    return [
        ("config", f"{plan['config']}: {plan['model']}"),
        ("objective", f"{plan['objective']} in the form {plan['objective_form']}"),
        ("slice", f"{plan['topology']}: {_count(chips, 'chip')}, mesh {mesh}"),
        ("devices", f"{devices:,}" + (", two a chip" if devices > chips else "")),
        ("parameters", f"{count:.1f} million"),
        ("batch", f"{batch:,} pairs, {batch / chips:,.6g} a chip{parts}"),
    ]


def _memory(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """GiB, as XLA counts: what is live at the peak has to fit, not all temporaries."""
    unit = "device" if plan["num_devices"] > plan["num_chips"] else "chip"
    name = f"HBM a {unit}"
    if not plan["fits"]:
        return [(name, f"DOES NOT FIT: {plan['message']}")]
    memory, usable = plan["memory"], plan["chip"]["usable_hbm_bytes"]
    details = ", ".join(
        f"{part} {_gib(memory[part])}"
        for part in ("arguments", "temporaries", "outputs", "program")
    )
    peak = f"{_gib(memory['peak'])} of {_gib(usable)} GiB"
    share = memory["peak"] / usable
    return [(name, f"FITS: peak {peak} ({share:.0%})"), ("", f"{details} GiB")]


def _flops(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, executed = plan["model_flops"], plan["executed_flops"]
    again = executed / model - 1
    more = plan["executed_passes"] / executed - 1
    return [
        ("FLOPs a step", f"{_tera(model)} T by the model"),
        ("", f"{_tera(executed)} T executed ({again:+.1%})"),
        ("", f"{more:+.1%} in passes, as float32 takes six"),
    ]


def _collectives(plan: Mapping[str, Any]) -> str:
    header = ("collectives of a step", "times", "MiB a device", "MiB received")
    rows = [
        (
            kind,
            f"{each['count']:,}",
            f"{each['bytes'] / 2**20:,.1f}",
            f"{each['received_bytes'] / 2**20:,.1f}",
        )
        for kind, each in plan["collectives"].items()
    ] or [("none", "", "", "")]
    text = table(header, rows)
    if plan["unknown_collectives"]:
        text += (
            f"\n{plan['unknown_collectives']} of them in loops of unknown length, "
            "counted as if these ran once"
        )
    return text


def _bounds(plan: Mapping[str, Any]) -> str:
    rows = [
        (
            _LIMITS[name],
            f"{1000 * seconds:,.1f}",
            "<- limits the step" if name == plan["limit"] else "",
        )
        for name, seconds in plan["seconds"].items()
    ]
    return table(("a step takes at least", "ms", ""), rows)


def _result(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    steps = plan["num_pairs"] / plan["batch_size"]
    return [
        ("throughput", f"at most {plan['pairs_per_second']:,.0f} pairs/s"),
        ("MFU", f"at most {plan['mfu']:.0%}"),
        (
            "the run",
            f"at least {plan['days']:.3g} days for {plan['num_pairs'] / 1e6:,.1f} "
            f"million pairs in {steps:,.0f} steps",
        ),
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / _GIB:.2f}"


def _tera(flops: float) -> str:
    return f"{flops / 1e12:,.4g}"
