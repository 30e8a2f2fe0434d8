"""Retrieval with toy encoders whose ranks are known."""

import numpy as np
import pytest
from test_captioned import write_tars

from cloob_jax.data import captioned
from cloob_jax.evaluators import Embedder, Retrieval, results
from cloob_jax.tokenizer import Tokenizer

# Picture i is the axis i; a caption lies near the axes of the pictures that it names,
# the first of them the most.
_CAPTIONS = [["cat", "cat dog"], ["cat dog dog"], ["emu"]]
_WORDS = [Tokenizer(8)(word)[0][1] for word in ("cat", "dog", "emu")]


@pytest.fixture
def embedder():
    axes = iter(np.eye(3, dtype=np.float32))

    def embed_images(images):
        embeds = np.stack([next(axes) for _ in images])
        return embeds, embeds

    def embed_texts(tokens):
        counts = [[np.sum(row == word) for word in _WORDS] for row in tokens]
        rows = np.asarray(counts, np.float32) + np.float32([0.1, 0, 0])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return Embedder(
        embed_images, embed_texts, tokenizer=Tokenizer(8), image_size=16, batch_size=2
    )


def test_recalls_and_ranks(embedder, tmp_path):
    test = Retrieval(
        captioned.open_set(
            "config.evals.pets", "pets", str(write_tars(tmp_path, _CAPTIONS))
        )
    )
    found = dict(test.run(embedder))
    # By captions, the pictures: all at the first place.
    assert found["image_retrieval_recall@1"] == 1
    assert found["image_retrieval_mean_rank"] == 1
    # By pictures, the captions: "cat" is first for 0, "cat dog dog" for 1, "emu" for 2.
    assert found["text_retrieval_recall@1"] == 1
    table = results.tables({"pets": test}, {"pets": found})
    assert "pets            3  100.0 (100.0-100.0)" in table
    names = results.open_clip_names({"pets": found})
    assert names["val/pets-text_to_image_R@1"] == 1
    assert names["val/pets-image_to_text_median_rank"] == 1
    assert results.headline({"pets": found}) == "pets 100.0% / 100.0%"


def test_what_is_missed_counts(embedder, tmp_path):
    captions = [["dog"], ["cat"], ["emu"]]
    test = Retrieval(
        captioned.open_set(
            "config.evals.pets", "pets", str(write_tars(tmp_path, captions))
        )
    )
    found = dict(test.run(embedder))
    assert found["text_retrieval_recall@1"] == pytest.approx(1 / 3)
    assert found["text_retrieval_recall@5"] == 1
    # "dog" is 0.1 near picture 0; "cat" and "emu" are not at all near 1 and 0.
    assert found["image_retrieval_mean_rank"] == pytest.approx((2 + 3 + 1) / 3)
    assert found["image_retrieval_median_rank"] == 2
