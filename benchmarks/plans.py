"""The plans of docs/scale.md: its tables, and the figure of how a step grows.

    python benchmarks/plans.py [--only flagships beyond growth]

Takes hours on two cores for all of it; `plan` keeps its answers, so it can be stopped
and started again. Needs the extras `tpu` and `notebooks`.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import record

_ROOT = Path(__file__).parent.parent
_MILLION = "--config.batch_size=1048576"
_SLICES = ("v5e:16x16", "v5p:4x4x4", "v6e:16x16")
_GROWTH = ("4x4x4", "4x8x8", "8x8x16", "16x16x16")
_PAIRS_A_CHIP = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(SETS), choices=list(SETS))
    for name in parser.parse_args().only:
        rows = [plan(*asked) for asked in SETS[name]]
        print(f"\n{name}\n\n{table(rows)}\n")
        if name == "growth":
            draw(rows, _ROOT / "docs" / "growth.png")
        record.append("plans", {"set": name}, rows)


def growth() -> list[tuple[str, ...]]:
    asked = []
    for shape in _GROWTH:
        chips = math.prod(map(int, shape.split("x")))
        batch = f"--config.batch_size={_PAIRS_A_CHIP * chips}"
        asked.append(("laion_vit_b16", f"v5p:{shape}", batch))
    return asked


SETS = {
    "flagships": [
        (config, where)
        for config in ("yfcc_rn50", "laion_vit_b16", "laion_vit_l14")
        for where in _SLICES
    ],
    "beyond": [
        ("laion_vit_b16", "v5p:8x8x16", _MILLION),
        ("laion_vit_b16", "v5e:16x16", _MILLION, "--config.accumulate_steps=32"),
    ],
    "growth": growth(),
}


def plan(config: str, where: str, *options: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "cloob_jax.plan", f"--json={file}"]
        command += [f"--config=configs/{config}.py", f"--topology={where}", *options]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
        return json.loads(file.read_text())


def table(rows: list[dict]) -> str:
    lines = [
        "| model | slice | batch | form | HBM a device, GiB | model TFLOPs, executed "
        "| received a device, MiB | least step, ms | limit | pairs/s at most "
        "| days at least |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        batch = f"{row['batch_size']:,}"
        if row["accumulate_steps"] > 1:
            batch += f" in {row['accumulate_steps']} parts"
        usable = row["chip"]["usable_hbm_bytes"] / 2**30
        cells = [row["model"], row["topology"], batch, row["objective_form"]]
        flops = f"{row['model_flops'] / 1e12:,.0f}, {row['executed_flops'] / 1e12:,.0f}"
        if row["fits"]:
            received = sum(k["received_bytes"] for k in row["collectives"].values())
            cells += [
                f"{row['memory']['peak'] / 2**30:.1f} of {usable:.1f}",
                flops,
                f"{received / 2**20:,.0f}",
                f"{row['step_seconds'] * 1e3:,.0f}",
                row["limit"],
                f"{row['pairs_per_second']:,.0f}",
                f"{row['days']:.2g}",
            ]
        else:
            needed = row["needed_bytes"]
            needed = "?" if needed is None else f"{needed / 2**30:,.1f}"
            cells += [f"{needed} of {usable:.1f}: does not fit", flops, *["-"] * 5]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict], file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    chips = [row["num_chips"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot(chips, [row["memory"]["peak"] / 2**30 for row in rows], "o-")
    left.set_ylabel("peak HBM a chip, GiB")
    for kind in sorted({kind for row in rows for kind in row["collectives"]}):
        received = [
            row["collectives"].get(kind, {"received_bytes": math.nan})["received_bytes"]
            for row in rows
        ]
        right.plot(chips, [bytes_ / 2**30 for bytes_ in received], "o-", label=kind)
    right.set_ylabel("received a chip and step, GiB")
    right.legend()
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        forms = [row["objective_form"] for row in rows]
        ticks = [f"{count:,}\n{form}" for count, form in zip(chips, forms, strict=True)]
        axes.set_xticks(chips, ticks)
        axes.set_xlabel(f"v5p chips of {_PAIRS_A_CHIP} pairs, form of the objective")
        axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    figure.suptitle("ViT-B-16, CLOOB: what a chip holds and receives")
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
