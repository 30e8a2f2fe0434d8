"""CLOOB on CIFAR-10 photographs with captions.

    python -m cloob_jax.main --config=configs/cifar10_tiny.py:FOLDER

FOLDER has CLIP_benchmark's WebDataset layout, with captions in the train shards.
Hardware: two CPU cores. Zero-shot top-1 on the 10,000 test images: 66.7 % (chance 10)
in 15 minutes, evaluations included; one run, at 260 to 390 images/s on shared cores.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(directory: str = "data/cifar10") -> ConfigDict:
    """A small ResNet; the photographs are enlarged to 64 x 64 pixels."""
    config = common.get_config()
    config.batch_size = 32
    config.total_steps = 8000
    config.model.name = "RN-tiny"
    config.model.dtype = "float32"  # CPUs compute bfloat16 slowly
    config.objective.beta = 25.0
    config.data.image_size = 64
    config.data.train = f"{directory}/train"
    config.data.resize = "pil"  # so small, nothing is gained by the other
    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 300
    config.log_steps = 100
    config.checkpoint_steps = 1000
    config.eval_steps = 2000
    config.evals = {
        "cifar10": {"kind": "zero_shot", "root": directory, "split": "test"},
        # Off without a root: captions are only in the train shards, which are trained
        # on, but for those left out of config.data.train.
        "spectrum": {"kind": "spectrum", "root": "", "split": "train"},
    }
    return config
