"""The door for notebooks: a trained or converted model, in four methods.

    import cloob_jax
    model = cloob_jax.load("runs/shapes_tiny")
    model.classify(images, ["cat", "dog"], ["a photo of a {}."])

Underneath are pure functions of the parameters: `step.embed_images(model.params,
model.batch_stats, images, model=model.encoders)`, and `embed_texts`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from PIL import Image

from cloob_jax import (
    architecture,
    embedding,
    objectives,
    run_directory,
    selection,
    sharding,
    stored_weights,
)
from cloob_jax.data import augment, class_words
from cloob_jax.embedding import EmbedImages, EmbedTexts
from cloob_jax.errors import UserError
from cloob_jax.evaluators.embedder import Embedder, Report
from cloob_jax.weights import Ours, positions

Images = Image.Image | Sequence[Image.Image] | np.ndarray | jax.Array


def load(
    directory: str | Path,
    *,
    image_size: int | None = None,
    dtype: str = "float32",
    batch_size: int = 256,
) -> "Model":
    """Loads a run directory, a step of it, or converted weights.

    Args:
      directory: of a run (its latest step), `RUN/checkpoints/STEP`, or what
        `python -m cloob_jax.convert` wrote.
      image_size: pixels of a side, if not those it was trained with; its positional
        embeddings are interpolated.
      dtype: of the computation, `float32` or `bfloat16`.
      batch_size: the most inputs embedded at a time, over all devices.

    Raises:
      UserError: no checkpoint is there, it is damaged, or a size does not suit it.
    """
    _, weights = read(Path(directory))
    return Model(weights, image_size=image_size, dtype=dtype, batch_size=batch_size)


def read(directory: Path) -> tuple[int, Ours]:
    """The step and the weights to evaluate of a run: the average where one is kept.

    Raises:
      UserError: no checkpoint is there, or it is damaged.
    """
    step, config, item = stored_weights.load(directory)
    params = item["params"] if item["ema"] is None else item["ema"]
    run, _ = stored_weights.run_and_step(directory)
    config["data"]["tokenizer"] = run_directory.tokenizer_of(run, config)
    return step, Ours(config, params["model"], item["batch_stats"], params["objective"])


class Model:
    """A pair of encoders on all devices.

    Attributes:
      config: of its training or conversion.
      encoders: the Flax module.
      params: its parameters, a copy on every device.
      batch_stats: its running statistics.
      tokenizer: texts to rows of ids.
      inv_tau: by which similarities are multiplied before a softmax.
    """

    def __init__(
        self,
        weights: Ours,
        *,
        image_size: int | None = None,
        dtype: str = "float32",
        batch_size: int = 256,
    ):
        """Places the weights; see `load`."""
        config = ConfigDict(weights.config)
        config.model.dtype = dtype
        config.model.attention = "auto"  # that of the training may not be here
        if image_size is not None:
            config.data.image_size = image_size
        self.config = config
        self.encoders, self.tokenizer = architecture.build(config)
        objective = config.objective
        fixed = objectives.build(objective.name, objective.get("inv_tau")).scalars
        learned = objectives.to_scalars(jax.tree.map(jnp.asarray, weights.scalars))
        self.inv_tau = float(learned.get("inv_tau", fixed["inv_tau"]))
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1")
        self._mesh = sharding.make_mesh()
        self._batch_size = batch_size
        self._embedders: dict[int, tuple[EmbedImages, EmbedTexts]] = {}
        whole = sharding.replicated(self._mesh)
        abstract = architecture.abstract_variables(self.encoders)["params"]
        params = positions.resize(weights.params, abstract)
        found, expected = (
            {(name, np.shape(leaf)) for name, leaf in selection.by_path(tree).items()}
            for tree in (params, abstract)
        )
        if wrong := sorted({name for name, _ in found ^ expected}):
            raise UserError(
                f"the weights do not fit the size {config.model.name}: "
                f"{', '.join(wrong[:3])}{' and more' if wrong[3:] else ''} are "
                "missing, too many, or of another shape"
            )
        self.params = jax.device_put(params, whole)
        self.batch_stats = jax.device_put(weights.batch_stats, whole)

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.encoders.image_size

    @property
    def embed_dim(self) -> int:
        """Length of an embedding."""
        return self.encoders.embed_dim

    def preprocess(self, images: Images) -> UInt8[np.ndarray, "b h w c"]:
        """Resizes pictures as CLIP's evaluation does: bicubic, then the centre square.

        Args:
          images: a PIL image or several.

        Returns:
          RGB bytes; `encode_image` converts and normalises them on the device.

        Raises:
          UserError: something else than PIL images.
        """
        if isinstance(images, Image.Image):
            images = [images]
        for image in images:
            if not isinstance(image, Image.Image):
                raise UserError(
                    f"images hold a {type(image).__name__}: expected PIL images, as "
                    "PIL.Image.open gives them, or the array that preprocess made"
                )
        resized = [
            augment.evaluation_resize(image.convert("RGB"), self.image_size)
            for image in images
        ]
        shape = (0, self.image_size, self.image_size, 3)
        return np.stack(resized) if resized else np.zeros(shape, np.uint8)

    def encode_image(self, images: Images) -> Float[np.ndarray, "b d"]:
        """Embeds pictures as vectors of length one.

        Args:
          images: what `preprocess` takes, or what it returned.

        Raises:
          UserError: an array that is no batch of such bytes.
        """
        return self.image_features(images)[1]

    def image_features(
        self, images: Images
    ) -> tuple[Float[np.ndarray, "b f"], Float[np.ndarray, "b d"]]:
        """What a linear probe sees of pictures, and their embeddings.

        The features are those before a vision transformer's projection, or after a
        residual network's attention pool, not normalised. See `encode_image`.
        """
        if not isinstance(images, (np.ndarray, jax.Array)):
            images = self.preprocess(images)
        images = np.asarray(images)
        expected = (self.image_size, self.image_size, 3)
        if images.shape == expected:
            images = images[None]
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise UserError(
                f"images are {images.dtype} {images.shape}: expected uint8 "
                f"(n, {self.image_size}, {self.image_size}, 3), as preprocess gives"
            )
        return self._embed(0, images)

    def encode_text(
        self, texts: str | Sequence[str] | np.ndarray | jax.Array
    ) -> Float[np.ndarray, "b d"]:
        """Embeds texts, or rows of their ids, as vectors of length one.

        Raises:
          UserError: an array that is no batch of ids.
        """
        if isinstance(texts, str):
            texts = [texts]
        texts = list(texts) if not isinstance(texts, jax.Array) else np.asarray(texts)
        if all(isinstance(text, str) for text in texts):
            texts = self.tokenizer([str(text) for text in texts])
        texts = np.asarray(texts)
        length = self.encoders.context_length
        if texts.shape == (length,):
            texts = texts[None]
        is_ids = np.issubdtype(texts.dtype, np.integer) and texts.ndim == 2
        if not is_ids or texts.shape[1] != length:
            raise UserError(
                f"texts are {texts.dtype} {texts.shape}: expected strings, or whole "
                f"numbers (n, {length}), as model.tokenizer gives"
            )
        size = self.tokenizer.vocabulary_size
        if texts.size and not 0 <= texts.min() <= texts.max() < size:
            raise UserError(f"texts hold ids outside of 0 to {size - 1}")
        return self._embed(1, texts.astype(np.int32))

    def classify(
        self,
        images: Images,
        class_names: Sequence[str],
        templates: Sequence[class_words.Template]
        | class_words.Template = "a photo of a {}.",
    ) -> Float[np.ndarray, "b classes"]:
        """The probability of every class for every picture, zero-shot.

        Args:
          images: what `encode_image` takes.
          class_names: in words.
          templates: one or more, with `{}` or `{c}` for the name, or functions of it;
            a class's prompts are embedded and averaged.

        Raises:
          UserError: no classes, no templates, or one without a place for the name.
        """
        is_list = not isinstance(class_names, str) and len(class_names) > 0
        if not is_list or not all(isinstance(name, str) for name in class_names):
            raise UserError(f"class_names={class_names!r}: expected a list of names")
        if isinstance(templates, str) or callable(templates):
            templates = [templates]
        prompts = [
            class_words.fill(template, name)
            for name in class_names
            for template in templates
        ]
        if not prompts:
            raise UserError("templates is empty: expected at least one, such as '{}'")
        embeds = self.encode_text(prompts)
        means = embeds.reshape(len(class_names), len(templates), -1).mean(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        logits = self.inv_tau * (self.encode_image(images) @ means.T)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def embedder(self, report: Report = lambda *_: None) -> Embedder:
        """This model as evaluators see it: it embeds whole data sets, each once.

        Args:
          report: is told how far a data set is, see `Embedder`.
        """
        return Embedder(
            self.image_features,
            self.encode_text,
            tokenizer=self.tokenizer,
            image_size=self.image_size,
            batch_size=self._batch_size,
            report=report,
        )

    def _embed(self, side: int, inputs: np.ndarray) -> Any:
        # A few sizes of batches, so that one picture does not cost as much as many, and
        # not every number of them is compiled.
        devices = jax.device_count()
        at_most = math.ceil(self._batch_size / devices) * devices
        share = max(1, math.ceil(len(inputs) / devices))
        chunk = min(devices * 2 ** math.ceil(math.log2(share)), at_most)
        if chunk not in self._embedders:
            whole = sharding.replicated(self._mesh)
            bind = embedding.build(self.encoders, self._mesh, whole, whole, chunk)
            self._embedders[chunk] = bind(self.params, self.batch_stats)
        # Some accelerators multiply float32 in fewer bits unless they are told.
        exact = self.config.model.dtype == "float32"
        with jax.default_matmul_precision("highest" if exact else "default"):
            return self._embedders[chunk][side](inputs)
