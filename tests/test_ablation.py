"""The ablation's tables from runs that are finished: nothing is trained here."""

import json
import math

import pytest


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend("benchmarks")
    import ablation

    return ablation


# Seeds 0, 1 and 2 of each objective; of the held-out combinations, in percent.
HELD_OUT = {
    "clip": [50.0, 60.0, 70.0],
    "hopfield_infonce": [40.0, 50.0, 60.0],
    "infoloob": [51.0, 60.0, 69.0],
    "cloob": [80.0, 80.0, 80.0],
}


def write_runs(ablation, study, runs):
    for objective, values in HELD_OUT.items():
        for seed, value in enumerate(values):
            for figure in study.figures:
                share = value / 100 if figure.dataset == "held_out" else 0.5
                file = ablation.path(runs / f"{objective}-{seed}", study, figure)
                file.parent.mkdir(parents=True, exist_ok=True)
                found = json.loads(file.read_text())["metrics"] if file.exists() else {}
                found[figure.name] = share
                file.write_text(json.dumps({"metrics": found}))


def cells(markdown, row):
    [line] = [line for line in markdown.splitlines() if line.startswith(f"| {row} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_tables_of_finished_runs(ablation, tmp_path, monkeypatch):
    study = ablation.STUDIES["shapes"]
    write_runs(ablation, study, tmp_path)
    monkeypatch.setattr(ablation.subprocess, "run", pytest.fail)
    for seed in range(3):
        ablation.train(study, tmp_path, "cloob", seed, tmp_path)
    found = ablation.collect(study, range(3), tmp_path)
    report, row = ablation.ablation_report, "zero-shot top-1, %: held-out pairs"
    # t of 2 degrees of freedom at 97.5 %: 4.3027; over the root of 3: 2.4841.
    assert cells(report.table(found), row) == [
        "60.0 ± 24.8",
        "50.0 ± 24.8",
        "60.0 ± 22.4",
        "80.0 ± 0.0",
    ]
    # Paired by the seed: the spread that seeds share is in no difference of two.
    assert cells(report.contrasts(found), row) == [
        "+0.0 ± 2.5, open",
        "-10.0 ± 0.0, met",
        "+20.0 ± 22.4, open",
        "+20.0 ± 24.8, open",
        "+30.0 ± 22.4, met",
    ]


def test_a_sign_is_met_refuted_or_open(ablation):
    verdict = ablation.ablation_report.verdict
    assert verdict(-2.0, 1.0, -1) == ", met"
    assert verdict(2.0, 1.0, -1) == ", against"
    assert verdict(1.0, 2.0, 1) == ", open"
    assert verdict(2.0, math.nan, 1) == ", open"  # of one seed
    assert verdict(2.0, 1.0, 0) == ""  # the paper does not say
