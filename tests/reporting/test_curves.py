"""Which metrics are drawn, in which order, over what."""

import re
from pathlib import Path

import numpy as np
import run_folder
from test_markup import Seen

from cloob_jax.reporting import curves, reading
from cloob_jax.reporting.metric_lines import Series
from cloob_jax.reporting.reading import Run


def run_of(**metrics):
    steps = np.arange(1.0, 4)
    series = {
        name: Series(steps, 32 * steps, np.array(values, float))
        for name, values in metrics.items()
    }
    return Run("run", Path(), series=series)


def titles(page):
    return re.findall("<h4>(.*?)</h4>", page)


def test_what_matters_comes_first_and_the_rest_is_folded():
    names = ["x", "train/zzz", "train/mfu", "train/lr", "val/a-top5", "train/loss"]
    names += ["val/a-zeroshot-val-top1", "train/grad_norm_text"]
    page = curves.draw([run_of(**{name: [1, 2, 3] for name in names})])
    shown, *folded = page.split("<details>")
    assert titles(shown) == [
        *("train/loss", "val/a-zeroshot-val-top1"),
        *("train/lr", "train/grad_norm_text", "train/mfu"),
    ]
    assert [titles(part) for part in folded] == [["train/zzz"], ["val/a-top5"], ["x"]]


def test_a_single_value_is_no_curve_and_none_is_told():
    nan = float("nan")
    page = curves.draw([run_of(**{"train/loss": [nan, 2, nan], "train/lr": [nan] * 3})])
    assert "Measured once (1)" in page and titles(page) == ["train/loss"]
    assert "Without any finite value: train/lr." in Seen(page).texts
    assert curves.draw([run_of()]) == ""


def test_batches_of_other_sizes_are_compared_over_pairs(tmp_path):
    paths = [
        run_folder.write(tmp_path / str(size), batch_size=size, steps=9600 // size)
        for size in (32, 64)
    ]
    one, other = reading.read_all(paths)
    assert 'data-label="step"' in curves.draw([one])
    page = curves.draw([one, other])
    assert 'data-label="pairs seen"' in page and 'data-x="32.0 9600.0"' in page
    assert "Over pairs seen, since batches differ in size." in page


def test_a_page_of_many_curves_has_fewer_points_of_each():
    steps = np.arange(1.0, 1000)
    noise = np.random.default_rng(0).normal(size=len(steps))
    series = {f"train/{n}": Series(steps, steps, noise) for n in range(100)}
    page = curves.draw([Run("a", Path(), series=series)] * 2)
    assert len(titles(page)) == 100
    assert len(page) < 2_000_000


def test_shares():
    shares = [
        "val/a-zeroshot-val-top1",
        "val/image_to_text_R@1",
        "acc1_single_template",
    ]
    shares += ["train/data_wait_fraction", "mean_per_class_recall", "train/mfu"]
    shares += ["text_retrieval_recall@5", "fewshot_16_acc1", "val/a-top5_single"]
    assert all(map(curves.is_share, shares))
    others = ["train/loss", "text_retrieval_mean_rank", "image_ajne", "accuracy_gap"]
    assert not any(map(curves.is_share, others))
