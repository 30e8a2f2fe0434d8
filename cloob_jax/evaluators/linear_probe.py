"""Linear probes of frozen image features, on whole training splits and on a few shots.

OpenAI's protocol (Radford et al. 2021, App. A.3): logistic regression by L-BFGS on the
features before the projection, not normalised; its penalty is swept on a validation
split, and the last fit is on all but the test split.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from cloob_jax import metrics, probe
from cloob_jax.data.labelled import LabelledSet
from cloob_jax.errors import UserError
from cloob_jax.evaluators import figures, zero_shot
from cloob_jax.evaluators.embedder import Embedder

_VALIDATION_SHARE = 0.2  # of a training split that comes without a validation split
# The penalty of few shots, for features whose root-mean-square distance from their mean
# is one: a sweep would need labels that few shots do not have.
_FEW_SHOT_C = 1.0

Split = tuple[Float[np.ndarray, "n w"], Int[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of all training features, its penalty swept.

    Attributes:
      train: to fit on.
      dataset: the test split.
      validation: to choose the penalty on; None: a fifth of each class of `train`,
        always the same.
    """

    train: LabelledSet
    dataset: LabelledSet
    validation: LabelledSet | None = None

    task = "linear_probe"

    def run(self, embedder: Embedder) -> Iterator[tuple[str, float]]:
        """Yields `lp_acc1`, `lp_acc5` (where there are more than 5 classes) and
        `lp_mean_per_class_recall`, CLIP_benchmark's names, between 0 and 1; `c`,
        scikit-learn's C that was chosen; and `validation_acc1`, by which it was.

        Raises:
          UserError: the splits have other classes, or too few pictures of one.
        """
        splits = [self.train, self.dataset]
        splits += [] if self.validation is None else [self.validation]
        found, num_classes = _features(embedder, splits)
        (features, labels), (test_features, test_labels) = found[:2]
        if self.validation is None:
            is_validation = held_out(labels, self.train.name)
        else:
            more_features, more_labels = found[2]
            missing = num_classes - len(np.unique(more_labels))
            if missing:
                raise UserError(
                    f"{self.validation.name}: the validation split is too small: it "
                    f"leaves {missing} of {num_classes} classes out"
                )
            is_validation = np.repeat([False, True], [len(labels), len(more_labels)])
            features = np.concatenate([features, more_features])
            labels = np.concatenate([labels, more_labels])
        regression = probe.LogisticRegression(features, labels)

        tried: list[float] = []

        def validate(c: float) -> float:
            tried.append(c)
            embedder.report(f"{self.dataset.name}, penalties", len(tried), probe.MOST)
            predictions = regression.fit(c, ~is_validation).predictions
            return float((predictions == labels)[is_validation].mean())

        c, validation_accuracy = probe.sweep(validate)
        scores = regression.fit(c).scores(test_features)
        hits = metrics.top_k_hits(scores, test_labels, 1)
        yield from figures.share("lp_acc1", hits)
        if num_classes > 5:
            top_5 = metrics.top_k_hits(scores, test_labels, 5)
            yield from figures.share("lp_acc5", top_5)
        yield from figures.share("lp_mean_per_class_recall", hits, test_labels)
        yield "c", c
        yield "validation_acc1", validation_accuracy

    def cells(self, found: Mapping[str, float]) -> dict[str, str]:
        """See `Evaluator`."""
        num_fitted = len(self.train) + len(self.validation or ())
        return {
            "linear probe": self.dataset.name,
            "train": str(num_fitted),
            "test": str(len(self.dataset)),
            "C": f"{found['c']:.3g}",
            "top-1 % (95 % interval)": figures.cell_with_interval(found, "lp_acc1"),
            "top-5 %": figures.cell(found, "lp_acc5"),
            "per class %": figures.cell(found, "lp_mean_per_class_recall"),
        }


@dataclasses.dataclass(frozen=True)
class FewShot:
    """Linear classifiers of a few training pictures a class, against zero-shot.

    Attributes:
      train: from which pictures are drawn.
      dataset: the test split.
      shots: numbers of pictures a class.
      num_seeds: draws for each of them.
    """

    train: LabelledSet
    dataset: LabelledSet
    shots: Sequence[int] = (1, 2, 4, 8, 16)
    num_seeds: int = 5

    task = "few_shot"

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
          UserError: they are not positive, or the shots do not rise.
        """
        shots = list(self.shots)
        if not shots or shots != sorted(set(shots)) or shots[0] < 1:
            raise UserError(
                f"{self.dataset.name}: shots={shots}: expected rising numbers of "
                "pictures a class, such as 1, 2, 4, 8, 16"
            )
        if self.num_seeds < 1:
            raise UserError(
                f"{self.dataset.name}: num_seeds={self.num_seeds}: expected 1 or more"
            )

    def run(self, embedder: Embedder) -> Iterator[tuple[str, float]]:
        """Yields `fewshot_K_acc1`, the mean over seeds, and `fewshot_K_acc1_std`, their
        standard deviation; `zeroshot_acc1`; and, if any number of shots suffices,
        `shots_to_match_zeroshot`, interpolated on the logarithm of the shots as in
        Radford et al. 2021, Fig. 7, and no less than the fewest shots.

        Pictures are drawn by class and seed, the same for every model, and fewer shots
        are a part of more. The penalty has one strength for all, relative to the
        variance of the features: `_FEW_SHOT_C`.

        Raises:
          UserError: the splits have other classes, or a class has too few pictures.
        """
        found, num_classes = _features(embedder, [self.train, self.dataset])
        (features, labels), (test_features, test_labels) = found
        accuracies = np.empty((self.num_seeds, len(self.shots)))
        for seed in range(self.num_seeds):
            rows = draw(labels, max(self.shots), seed, self.train.name)
            drawn = features[rows].reshape(-1, features.shape[1])
            shot = np.tile(np.arange(max(self.shots)), num_classes)
            regression = probe.LogisticRegression(drawn, labels[rows].ravel())
            for column, k in enumerate(self.shots):
                variance = float(drawn[shot < k].var(axis=0).sum()) or 1.0
                fit = regression.fit(_FEW_SHOT_C / variance, shot < k)
                hits = metrics.top_k_hits(fit.scores(test_features), test_labels, 1)
                accuracies[seed, column] = hits.mean()
        means = accuracies.mean(axis=0)
        deviations = accuracies.std(axis=0, ddof=min(1, self.num_seeds - 1))
        for k, mean, deviation in zip(self.shots, means, deviations, strict=True):
            yield f"fewshot_{k}_acc1", float(mean)
            yield f"fewshot_{k}_acc1_std", float(deviation)
        embeds, notes = embedder.pictures(self.dataset)
        templates = next(iter(self.dataset.prompt_sets.values()))
        weights = zero_shot.classifier(self.dataset.class_names, templates, embedder)
        hits = metrics.top_k_hits(embeds @ weights, np.array(notes, np.int64), 1)
        line = float(hits.mean())
        yield "zeroshot_acc1", line
        crossing = shots_to_reach(line, self.shots, means)
        if crossing is not None:
            yield "shots_to_match_zeroshot", crossing

    def cells(self, found: Mapping[str, float]) -> dict[str, str]:
        """See `Evaluator`."""
        crossing = found.get("shots_to_match_zeroshot")
        return {
            "few-shot": self.dataset.name,
            "test": str(len(self.dataset)),
            **{
                f"{k}-shot %": f"{figures.cell(found, f'fewshot_{k}_acc1')} "
                f"± {figures.cell(found, f'fewshot_{k}_acc1_std')}"
                for k in self.shots
            },
            "zero-shot %": figures.cell(found, "zeroshot_acc1"),
            "shots to match": "-" if crossing is None else f"{crossing:.1f}",
        }


def held_out(labels: Int[np.ndarray, " n"], name: str) -> Bool[np.ndarray, " n"]:
    """A fifth of each class, at least one row, drawn at random but always the same.

    Raises:
      UserError: a class has a single row.
    """
    rng, is_held_out = np.random.default_rng(0), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if len(rows) < 2:
            raise UserError(
                f"{name}: the train split has a single picture of a class, too few to "
                "hold out a validation split; give one, or more pictures of each class"
            )
        is_held_out[rows[: max(1, round(_VALIDATION_SHARE * len(rows)))]] = True
    return is_held_out


def draw(
    labels: Int[np.ndarray, " n"], shots: int, seed: int, name: str
) -> Int[np.ndarray, "classes shots"]:
    """Rows of each class at random, without replacement; the first few of them are
    what a draw of fewer shots gives.

    Raises:
      UserError: a class has too few rows.
    """
    counts = np.bincount(labels)
    if counts.min() < shots:
        raise UserError(
            f"{name}: the train split has {counts.min()} picture(s) of a class; "
            f"{shots} shots need as many of each, so leave the larger ones out of shots"
        )
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in range(len(counts))]
    return np.stack([rng.permutation(rows)[:shots] for rows in classes])


def shots_to_reach(
    accuracy: float, shots: Sequence[int], accuracies: Float[np.ndarray, " shots"]
) -> float | None:
    """Where the line through accuracies over the logarithm of shots first reaches one.

    Args:
      accuracy: to reach.
      shots: rising.
      accuracies: of each number of shots.

    Returns:
      A number of shots, the least of them if that suffices; None: not reached.
    """
    enough = np.flatnonzero(accuracies >= accuracy)
    if not len(enough):
        return None
    last = int(enough[0])
    if last == 0:
        return float(shots[0])
    ends = slice(last - 1, last + 1)
    return float(np.exp(np.interp(accuracy, accuracies[ends], np.log(shots[ends]))))


def _features(
    embedder: Embedder, splits: Sequence[LabelledSet]
) -> tuple[list[Split], int]:
    """Features of all splits, labels counted among the classes of the first.

    Raises:
      UserError: a split is empty or of other classes, or there is a single class.
    """
    train = splits[0]
    for split in splits:
        if not len(split):
            raise UserError(f"{split.name}: a split has no pictures; expected some")
        if split.class_names != train.class_names:
            raise UserError(
                f"{split.name}: the class names of the splits differ; train and test "
                "need the same names in the same order"
            )
    found = [embedder.features(split) for split in splits]
    classes = np.unique(found[0][1])
    if len(classes) < 2:
        name = train.class_names[classes[0]]
        raise UserError(
            f"{train.name}: the train split holds a single class, {name!r}; a probe "
            "needs two or more"
        )
    counted = []
    for split, (features, notes) in zip(splits, found, strict=True):
        unknown = np.setdiff1d(notes, classes)
        if len(unknown):
            raise UserError(
                f"{split.name}: a split has pictures of "
                f"{train.class_names[unknown[0]]!r}, of which the train split has none"
            )
        if not np.isfinite(features).all():
            raise UserError(
                f"{split.name}: the features of a picture are no finite numbers; the "
                "weights of this model are broken"
            )
        counted.append((features, np.searchsorted(classes, notes)))
    return counted, len(classes)
