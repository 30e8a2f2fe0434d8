"""Evaluations side by side."""

from pathlib import Path

from test_markup import Seen

from cloob_jax.reporting import scores
from cloob_jax.reporting.reading import Result, Run


def result(step, task="zeroshot_retrieval", **figures):
    return Result(step, "coco", task, figures, Path("x.json"))


def test_the_latest_with_its_interval_and_the_best():
    first = result(10, "zeroshot_classification", acc1=0.5)
    ends = {"acc1_ci95_low": 0.35, "acc1_ci95_high": 0.45}
    second = result(20, "zeroshot_classification", acc1=0.4, **ends)
    other = result(20, "zeroshot_classification", acc1=0.45)
    runs = [
        Run("a", Path(), results=[first, second]),
        Run("b", Path(), results=[other]),
    ]
    texts = Seen(scores.draw(runs)).texts
    assert texts[1:] == [
        *("data set and figure", "a", "b", "coco", " top-1"),
        *("40.0 %", " (35.0 to 45.0)", "step 20; best 50.0 % at 10"),
        *("45.0 %", "step 20"),
    ]
    assert "<b>45.0 %</b>" in scores.draw(runs)
    assert "<b>" not in scores.draw(runs[:1])  # nothing to compare with


def test_of_ranks_the_lowest_is_best_and_of_others_none():
    name = "text_retrieval_mean_rank"
    runs = [
        Run("a", Path(), results=[result(1, **{name: 9.0, "image_ajne": 1.0})]),
        Run("b", Path(), results=[result(1, **{name: 7.0, "image_ajne": 2.0})]),
    ]
    page = scores.draw(runs)
    assert page.count("<b>") == 1 and "<b>7</b>" in page


def test_what_a_run_did_not_measure_is_left_blank():
    runs = [Run("a", Path(), results=[result(1, acc1=0.5)]), Run("b", Path())]
    assert Seen(scores.draw(runs)).texts[-1] == "-"
    assert scores.draw([Run("a", Path())]) == ""


def test_all_figures_are_there_folded():
    page = scores.draw([Run("a", Path(), results=[result(1, acc1=0.5, x=3.25)])])
    before, after = page.split("<details>")
    assert "x, zeroshot_retrieval" not in before
    assert "All figures (2)" in after and "3.250" in after
