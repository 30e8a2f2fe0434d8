"""The pair of encoders, and the table of the sizes that have names."""

import dataclasses
import difflib

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from cloob_jax.errors import UserError
from cloob_jax.models import transformer
from cloob_jax.models.resnet import TOTAL_STRIDE, ModifiedResNet
from cloob_jax.models.text import TextEncoder
from cloob_jax.models.vit import VisionTransformer

VOCABULARY_SIZE = 49408
VISION_HEAD_WIDTH = 64


class DualEncoder(nn.Module):
    """An image and a text encoder into one space; parameters `visual` and `text`."""

    visual: ModifiedResNet | VisionTransformer
    text: TextEncoder

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


# Names and numbers are open_clip's (`model_configs/*.json`); the tiny ones are ours.
# Columns: embed_dim, image_size, vision layers, width and patch; text width, heads
# and, where they are not 12 and 77, layers and context.
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


def build(
    name: str,
    *,
    image_size: int | None = None,
    dtype: DTypeLike = jnp.bfloat16,
    bn_groups: int = 1,
    quick_gelu: bool = True,
) -> DualEncoder:
    """Make the model of a named size; see `SIZES`.

    Args:
      name: a key of `SIZES`.
      image_size: pixels of a side, if not the size's own.
      dtype: type of the computations; parameters are float32 always.
      bn_groups: parts of the batch with BatchNorm statistics of their own.
      quick_gelu: False for open_clip's models that use the exact GELU.

    Raises:
      UserError: for an unknown name, or an image size that the strides or patches
        of the model do not divide.
    """
    size = _look_up(name, image_size)
    activation = transformer.quick_gelu if quick_gelu else transformer.exact_gelu
    text = TextEncoder(
        embed_dim=size.embed_dim,
        context_length=size.context_length,
        vocabulary_size=VOCABULARY_SIZE,
        width=size.text_width,
        num_heads=size.text_heads,
        num_layers=size.text_layers,
        activation=activation,
        dtype=dtype,
    )
    if size.patch_size is None:
        resnet = ModifiedResNet(
            embed_dim=size.embed_dim,
            image_size=size.image_size,
            layers=size.vision_layers,
            width=size.vision_width,
            bn_groups=bn_groups,
            dtype=dtype,
        )
        return DualEncoder(resnet, text)
    vit = VisionTransformer(
        embed_dim=size.embed_dim,
        image_size=size.image_size,
        patch_size=size.patch_size,
        width=size.vision_width,
        num_heads=size.vision_width // VISION_HEAD_WIDTH,
        num_layers=size.vision_layers[0],
        activation=activation,
        dtype=dtype,
    )
    return DualEncoder(vit, text)


def _look_up(name: str, image_size: int | None) -> Size:
    """The size of that name, with another image size if one is given."""
    if name not in SIZES:
        close = difflib.get_close_matches(name, SIZES) or SIZES
        raise UserError(f"unknown model {name!r}: choose {' or '.join(close)}")
    size = SIZES[name]
    if image_size is None:
        return size
    divisor = size.patch_size or TOTAL_STRIDE
    if image_size < divisor or image_size % divisor:
        raise UserError(
            f"image size {image_size} does not suit {name}: "
            f"choose a positive multiple of {divisor}"
        )
    return dataclasses.replace(size, image_size=image_size)
