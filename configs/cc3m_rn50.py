"""CLOOB or CLIP with a ResNet-50 on Conceptual Captions 3M.

    python -m cloob_jax.main --config=configs/cc3m_rn50.py
    python -m cloob_jax.main --config=configs/cc3m_rn50.py:clip

The recipe is the example command of the authors' code (github.com/ml-jku/cloob): 4 GPUs
with 128 pairs each, 70 epochs of 2.89 million pairs. Its learning rate restarts ten
times; the figures that count are those of the end, where the rate is zero.

Hardware: one host with 4 or more GPUs of 16 GB, or 4 or more TPU chips. Hours: not
measured yet.
Score to expect: ImageNet zero-shot 23.97 +- 0.15 after 31 epochs and 25.67 +- 0.22
after 128, CLIP 20.33 +- 0.28 and 21.30 +- 0.42 (Fuerst et al. 2021, Table 1, five
runs). The authors do not say that the example command is the table's run.
Data: tars of img2dataset from the list that Google publishes, under data/cc3m.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(objective: str = "cloob") -> ConfigDict:
    """The authors' recipe, for any objective."""
    config = common.get_config()
    config.batch_size = 512
    config.total_steps = 395_080  # 70 epochs of 5,644 steps
    config.model.name = "RN50"
    config.model.bn_groups = 4  # the authors' BatchNorm saw 128 pairs a GPU
    config.objective.name = objective
    config.data.train = "data/cc3m/{00000..00331}.tar"
    config.data.num_workers = 8
    config.data.num_threads = 1
    config.optim.learning_rate = 1e-3
    config.optim.weight_decay = 0.1
    config.optim.schedule = "cosine_restarts"
    config.optim.num_cycles = 10
    config.optim.warmup_steps = 20_000
    config.checkpoint_steps = 2_000
    config.eval_steps = 5_644
    return config
