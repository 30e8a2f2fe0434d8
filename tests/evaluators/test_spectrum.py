"""The figures of embeddings, on pairs whose geometry is known."""

import math

import numpy as np
import pytest
from test_captioned import write_tars

from cloob_jax.data import captioned, pictures
from cloob_jax.evaluators import Embedder, Spectrum, results, spectrum
from cloob_jax.tokenizer import Tokenizer

_WORDS = ["cat", "dog", "emu", "fox"]
_IDS = [Tokenizer(8)(word)[0][1] for word in _WORDS]


@pytest.fixture
def embedder():
    """Pictures on four axes, their captions on the same."""
    axes = iter(np.eye(4, dtype=np.float32))

    def embed_images(images):
        embeds = np.stack([next(axes) for _ in images])
        return embeds, embeds

    def embed_texts(tokens):
        return np.float32([[row[1] == number for number in _IDS] for row in tokens])

    return Embedder(
        embed_images, embed_texts, tokenizer=Tokenizer(8), image_size=16, batch_size=4
    )


@pytest.fixture
def test(tmp_path):
    # The second caption of a picture would be another axis.
    captions = [[word, "emu"] for word in _WORDS]
    root = str(write_tars(tmp_path / "set", captions))
    return Spectrum(captioned.open_set("x", "pets", root), beta=math.log(3))


def test_figures_of_four_axes(test, embedder, tmp_path):
    found = dict(test.run(embedder))
    assert found["num_pairs"] == 4
    for side in ("image", "text"):
        # Four corners of a tetrahedron: three directions, alike.
        np.testing.assert_allclose(
            found[f"{side}_spectrum"], [0.25, 0.25, 0.25, 0], atol=1e-9
        )
        assert found[f"{side}_effective_eigenvalues"] == 3
        assert found[f"{side}_effective_rank"] == pytest.approx(3)
        # n / 4 less six right angles over n pi.
        assert found[f"{side}_ajne"] == pytest.approx(4 / 4 - 6 / 2 / 4)
    assert found["pair_similarity"] == 1 and found["closest_other_similarity"] == 0
    assert found["modality_gap"] == 0
    # One weight of 3 in 6, three of 1.
    entropy = math.log(6) - math.log(3) / 2
    for name in ("image_by_image", "image_by_text", "text_by_image", "text_by_text"):
        assert found[f"{name}_entropy"] == pytest.approx(entropy)


def test_many_pairs_are_thinned_evenly(test, embedder, monkeypatch):
    monkeypatch.setattr(spectrum, "_MAX_PAIRS", 2)
    found = dict(test.run(embedder))
    # The first and the last: of the toy's axes, as they come, the second is a dog's.
    assert found["num_pairs"] == 2 and found["pair_similarity"] == 0.5
    assert pictures.thinned(test.dataset, 2).where(1) == test.dataset.where(3)
    assert pictures.thinned(test.dataset, 4) is test.dataset


def test_a_table_and_json_with_arrays(test, embedder, tmp_path):
    found = results.run_one(
        test, embedder, directory=tmp_path / "eval", model="m", pretrained="p"
    )
    path, arrays = sorted((tmp_path / "eval").iterdir())
    assert path.name == "benchmark_pets_p_m_en_spectrum.json"
    assert np.load(arrays)["image_spectrum"].shape == (4,)
    assert not any("spectrum" in name for name in found)
    assert "pets" in results.tables({"x": test}, {"x": found})
    assert results.open_clip_names({"x": found})["val/x-image_effective_rank"] > 0
