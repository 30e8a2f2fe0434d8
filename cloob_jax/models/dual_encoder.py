"""The pair of encoders, and the table of the sizes that have names."""

import dataclasses
import difflib
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cloob_jax.errors import UserError
from cloob_jax.models import transformer
from cloob_jax.models.cloob_training import CloobTrainingText, CloobTrainingVision
from cloob_jax.models.resnet import TOTAL_STRIDE, ModifiedResNet
from cloob_jax.models.text import TextEncoder
from cloob_jax.models.transformer import Compute
from cloob_jax.models.vit import VisionTransformer

HEAD_WIDTH = 64
DEFAULT_COMPUTE = Compute()


class DualEncoder(nn.Module):
    """An image and a text encoder into one space; parameters `visual` and `text`."""

    visual: ModifiedResNet | VisionTransformer | CloobTrainingVision
    text: TextEncoder | CloobTrainingText

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.visual.image_size

    @property
    def context_length(self) -> int:
        """Tokens of a text, padding included."""
        return self.text.context_length

    @property
    def embed_dim(self) -> int:
        """Length of an embedding."""
        return self.text.embed_dim

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        texts: Int[Array, "b l"],
        train: bool = False,
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """Embed pairs, see `encode_image` and `encode_text`."""
        return self.encode_image(images, train), self.encode_text(texts)

    def encode_image(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b d"]:
        """Embed images, already normalised, as float32 vectors of length one.

        With `train` a residual network uses its batch's statistics, and the
        collection `batch_stats` must be mutable.
        """
        expected = (self.image_size, self.image_size, 3)
        if images.shape[1:] != expected:
            raise ValueError(
                f"images have shape {images.shape[1:]}, this model takes {expected}"
            )
        return _unit(self.visual(images, train))

    def encode_text(self, texts: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Embed token ids as float32 vectors of length one."""
        return _unit(self.text(texts))


def _unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Size:
    """The numbers that make a model; pixels, channels, layers.

    A residual network has four counts of vision layers and no patch size, a vision
    transformer one count and a patch size.
    """

    embed_dim: int
    image_size: int
    vision_layers: tuple[int, ...]
    vision_width: int
    patch_size: int | None
    text_width: int
    text_heads: int
    text_layers: int = 12
    context_length: int = 77
    vocabulary_size: int = 49408


# Names and numbers are open_clip's (`model_configs/*.json`); the tiny ones are ours.
# Columns: embed_dim, image_size, vision layers, width and patch; text width, heads
# and, where they are not CLIP's 12 and 77, layers and context. Every head is 64 wide.
SIZES: dict[str, Size] = {
    "RN50": Size(1024, 224, (3, 4, 6, 3), 64, None, 512, 8),
    "RN101": Size(512, 224, (3, 4, 23, 3), 64, None, 512, 8),
    "RN50x4": Size(640, 288, (4, 6, 10, 6), 80, None, 640, 10),
    "RN50x16": Size(768, 384, (6, 8, 18, 8), 96, None, 768, 12),
    "RN50x64": Size(1024, 448, (3, 15, 36, 10), 128, None, 1024, 16),
    "ViT-B-32": Size(512, 224, (12,), 768, 32, 512, 8),
    "ViT-B-16": Size(512, 224, (12,), 768, 16, 512, 8),
    "ViT-L-14": Size(768, 224, (24,), 1024, 14, 768, 12),
    "ViT-L-14-336": Size(768, 336, (24,), 1024, 14, 768, 12),
    "RN-tiny": Size(64, 32, (1, 1, 1, 1), 8, None, 64, 1, 1, 24),
    "ViT-tiny": Size(64, 32, (2,), 128, 8, 64, 1, 1, 24),
}


# A size with this ending has the encoders of cloob-training in place of CLIP's.
CLOOB_TRAINING = "-cloob-training"
_OF_CLOOB_TRAINING = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-tiny")
NAMES = (*SIZES, *(name + CLOOB_TRAINING for name in _OF_CLOOB_TRAINING))


def build(
    name: str,
    *,
    image_size: int | None = None,
    context_length: int | None = None,
    vocabulary_size: int | None = None,
    end_id: int | None = None,
    quick_gelu: bool = True,
    bn_groups: int = 1,
    compute: Compute = DEFAULT_COMPUTE,
) -> DualEncoder:
    """Make the model of a named size.

    Args:
      name: one of `NAMES`.
      image_size: pixels of a side, if not the size's own.
      context_length: tokens of a text, if not the size's own.
      vocabulary_size: of another tokenizer than CLIP's.
      end_id: its end-of-text token; the last of the vocabulary, if not given.
      quick_gelu: False for open_clip's models that use the exact GELU.
      bn_groups: parts of the batch with BatchNorm statistics of their own.
      compute: types, and what is traded between time and memory.

    Raises:
      UserError: for an unknown name, or an image size that the strides or patches
        of the model do not divide.
    """
    size = _look_up(
        name,
        image_size=image_size,
        context_length=context_length,
        vocabulary_size=vocabulary_size,
    )
    text: dict[str, Any] = {
        "embed_dim": size.embed_dim,
        "context_length": size.context_length,
        "vocabulary_size": size.vocabulary_size,
        "width": size.text_width,
        "num_heads": size.text_heads,
        "num_layers": size.text_layers,
        "end_id": size.vocabulary_size - 1 if end_id is None else end_id,
        "compute": compute,
    }
    visual = _visual_fields(size, bn_groups, compute)
    if name.endswith(CLOOB_TRAINING):
        # cuDNN would take the mask for a bias, of which it wants even lengths.
        plain = compute._replace(attention="xla")
        visual, text = visual | {"compute": plain}, text | {"compute": plain}
        return DualEncoder(CloobTrainingVision(**visual), CloobTrainingText(**text))
    activation = transformer.quick_gelu if quick_gelu else transformer.exact_gelu
    text_encoder = TextEncoder(**text, activation=activation)
    if size.patch_size is None:
        return DualEncoder(ModifiedResNet(**visual), text_encoder)
    return DualEncoder(VisionTransformer(**visual, activation=activation), text_encoder)


def _visual_fields(size: Size, bn_groups: int, compute: Compute) -> dict[str, Any]:
    """What a vision tower of the size is made with, but for its activation."""
    fields: dict[str, Any] = {
        "embed_dim": size.embed_dim,
        "image_size": size.image_size,
        "width": size.vision_width,
        "compute": compute,
    }
    if size.patch_size is None:
        return fields | {"layers": size.vision_layers, "bn_groups": bn_groups}
    return fields | {
        "patch_size": size.patch_size,
        "num_heads": size.vision_width // HEAD_WIDTH,
        "num_layers": size.vision_layers[0],
    }


def _look_up(name: str, **given: int | None) -> Size:
    """The size of that name, with what is given in place of its own."""
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES) or SIZES
        raise UserError(f"unknown model {name!r}: choose {' or '.join(close)}")
    size = SIZES[name.removesuffix(CLOOB_TRAINING)]
    changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    size = dataclasses.replace(size, **changes)
    divisor, image_size = size.patch_size or TOTAL_STRIDE, size.image_size
    if image_size < divisor or image_size % divisor:
        raise UserError(
            f"image size {image_size} does not suit {name}: "
            f"choose a positive multiple of {divisor}"
        )
    return size
