"""OpenCLIP's model and loss in PyTorch, for `step.py --against_open_clip`.

bfloat16 autocast, torch.compile, channels_last for residual networks, its own fused
attention and fused AdamW: what a careful user of it would set. The loss is CLIP's
whatever --objective says: OpenCLIP has no other of ours.
"""

import json
import statistics
import time

import open_clip
import torch
from step import arguments


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--json", action="store_true")
    print(json.dumps(measure(parser.parse_args())))


def measure(given) -> dict:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    name = f"{given.model}-quickgelu" if given.model.startswith("ViT") else given.model
    model = open_clip.create_model(name).to(device).train()
    layout = torch.contiguous_format
    if given.model.startswith("RN"):
        layout = torch.channels_last
        model = model.to(memory_format=layout)
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    images = torch.randint(0, 256, (given.batch_size, 3, size, size), dtype=torch.uint8)
    images = images.to(device)
    texts = torch.randint(1, 49406, (given.batch_size, 77), device=device)
    texts[:, -1] = 49407
    loss_fn = open_clip.ClipLoss()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
    forward = torch.compile(model)

    def step() -> None:
        pixels = (images.float() / 255 - 0.45) / 0.27
        pixels = pixels.contiguous(memory_format=layout)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, given.dtype == "bfloat16"):
            loss = loss_fn(*forward(pixels, texts))
        loss.backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    step()
    compile_seconds = time.perf_counter() - start
    step()
    times = []
    for _ in range(given.steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    cuda = device == "cuda"
    return {
        "who": "OpenCLIP",
        "images_per_second": given.batch_size / statistics.median(times),
        "step_seconds": statistics.quantiles(times, n=4),
        "compile_seconds": compile_seconds,
        "mfu": None,
        "peak_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "versions": {"torch": torch.__version__, "open_clip": open_clip.__version__},
    }


if __name__ == "__main__":
    main()
