"""A forward pass of the encoders in NumPy float64, from their papers' descriptions.

It shares nothing with the package but the names of the weights.
"""

import math
import operator

import jax
import numpy as np


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def dense(x, weights):
    return x @ weights["kernel"] + weights.get("bias", 0)


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def exact_gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x, weights):
    centred = x - x.mean(-1, keepdims=True)
    std = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / std * weights["scale"] + weights["bias"]


def attention(queries, tokens, weights, num_heads, causal, mask=None):
    query = dense(queries, weights["query"])
    key, value = dense(tokens, weights["key"]), dense(tokens, weights["value"])
    head_width = query.shape[-1] // num_heads
    heads = []
    for head in range(num_heads):
        part = slice(head * head_width, (head + 1) * head_width)
        logits = query[..., part] @ key[..., part].swapaxes(1, 2) / head_width**0.5
        if causal:
            logits[
                :,
                np.triu_indices(logits.shape[1], 1)[0],
                np.triu_indices(logits.shape[1], 1)[1],
            ] = -np.inf
        if mask is not None:
            # Such a query's logits are all alike, however the others are masked.
            logits[~mask] = 0
        exponentials = np.exp(logits - logits.max(-1, keepdims=True))
        shares = exponentials / exponentials.sum(-1, keepdims=True)
        heads.append(shares @ value[..., part])
    return dense(np.concatenate(heads, -1), weights["out"])


def transformer(x, weights, num_heads, gelu, causal, mask=None):
    blocks = weights["blocks"]
    for layer in range(len(blocks["ln_1"]["scale"])):
        block = jax.tree.map(operator.itemgetter(layer), blocks)
        normed = layer_norm(x, block["ln_1"])
        x = x + attention(normed, normed, block["attention"], num_heads, causal, mask)
        hidden = dense(layer_norm(x, block["ln_2"]), block["mlp"]["fc"])
        x = x + dense(gelu(hidden), block["mlp"]["proj"])
    return x


def text(weights, texts, num_heads, gelu):
    x = weights["token_embedding"]["embedding"][texts]
    x = x + weights["positional_embedding"]
    x = transformer(x, weights["transformer"], num_heads, gelu, causal=True)
    x = layer_norm(x, weights["ln_final"])
    ends = [list(row).index(49407) for row in texts]
    return dense(x[np.arange(len(texts)), ends], weights["projection"])


def vit(weights, images, num_heads, gelu):
    kernel = weights["patch_embedding"]["kernel"]
    x = convolution(images, kernel, stride=len(kernel), padding=0)
    x = x.reshape(len(images), -1, kernel.shape[-1])
    first = np.broadcast_to(weights["class_embedding"], (len(x), 1, x.shape[-1]))
    x = np.concatenate([first, x], 1) + weights["positional_embedding"]
    x = layer_norm(x, weights["ln_pre"])
    x = transformer(x, weights["transformer"], num_heads, gelu, causal=False)
    x = layer_norm(x, weights["ln_post"])[:, 0]
    return dense(x, weights["projection"])


def convolution(x, kernel, stride=1, padding=0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("bijchw,hwco->bijo", windows, kernel, optimize=True)


def average_pool(x, stride):
    b, h, w, c = x.shape
    return x.reshape(b, h // stride, stride, w // stride, stride, c).mean((2, 4))


def resnet(weights, stats, images, layers):
    def norm(x, weights, stats):
        x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
        return x * weights["scale"] + weights["bias"]

    def layer(x, weights, stats, number, stride=1):
        kernel = weights[f"conv{number}"]["kernel"]
        x = convolution(x, kernel, stride, padding=len(kernel) // 2)
        return norm(x, weights[f"bn{number}"], stats[f"bn{number}"])

    def relu(x):
        return np.maximum(x, 0)

    x = images
    for number in (1, 2, 3):
        x = relu(layer(x, weights, stats, number, stride=2 if number == 1 else 1))
    x = average_pool(x, 2)
    for stage, num_blocks in enumerate(layers, start=1):
        for index in range(num_blocks):
            stride = 2 if stage > 1 and index == 0 else 1
            block = weights[f"layer{stage}_{index}"]
            block_stats = stats[f"layer{stage}_{index}"]
            out = relu(layer(x, block, block_stats, 1))
            out = average_pool(relu(layer(out, block, block_stats, 2)), stride)
            out = layer(out, block, block_stats, 3)
            if index == 0:
                x = average_pool(x, stride)
                x = convolution(x, block["downsample_conv"]["kernel"])
                x = norm(x, block["downsample_bn"], block_stats["downsample_bn"])
            x = relu(x + out)
    x = x.reshape(len(x), -1, x.shape[-1])
    pool = weights["attnpool"]
    x = np.concatenate([x.mean(1, keepdims=True), x], 1) + pool["positional_embedding"]
    num_heads = x.shape[-1] // 64
    return attention(x[:, :1], x, pool, num_heads, causal=False)[:, 0]


def tanh_gelu(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def cloob_training_vision(weights, images, num_heads):
    kernel = weights["patch_embedding"]["kernel"]
    x = convolution(images, kernel, stride=len(kernel), padding=0)
    x = x.reshape(len(images), -1, kernel.shape[-1])
    first = np.broadcast_to(weights["class_embedding"], (len(x), 1, x.shape[-1]))
    x = np.concatenate([first, x], 1) + weights["positional_embedding"]
    x = transformer(x, weights["transformer"], num_heads, tanh_gelu, causal=False)
    return dense(x[:, 0], weights["projection"])


def cloob_training_text(weights, texts, num_heads):
    x = weights["token_embedding"]["embedding"][texts]
    x = x + weights["positional_embedding"]
    is_text = [[49407 not in row[:i] for i in range(len(row))] for row in texts]
    x = transformer(
        x,
        weights["transformer"],
        num_heads,
        tanh_gelu,
        causal=False,
        mask=np.array(is_text),
    )
    return dense(x[:, 0], weights["projection"])
