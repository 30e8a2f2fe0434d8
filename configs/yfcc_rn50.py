"""CLOOB or CLIP with a ResNet-50 on the 15 million pairs of YFCC that OpenAI chose.

    python -m cloob_jax.main --config=configs/yfcc_rn50.py
    python -m cloob_jax.main --config=configs/yfcc_rn50.py:clip

Hardware: 8 or more GPUs or TPU chips of 16 GB. Hours: not measured yet.
Score to expect after 28 epochs: ImageNet zero-shot 35.7, CLIP 34.6 (Fuerst et al. 2021,
zero-shot table for YFCC; CLIP is the authors' own run).
Published: 28 epochs, 1/tau = 30 (the authors' notebook), weight decay 0.1 (OpenAI's
YFCC runs). NOT published with the code, and chosen here: batch size, learning rate,
warm-up, cycles, and beta, which is the default of the authors' command line.
Data: tars of img2dataset from OpenAI's list (14,829,396 pictures), under data/yfcc15m.
"""

from ml_collections import ConfigDict

from configs import cc3m_rn50


def get_config(objective: str = "cloob") -> ConfigDict:
    """The CC3M recipe with what differs."""
    config = cc3m_rn50.get_config(objective)
    config.batch_size = 1024
    config.total_steps = 405_468  # 28 epochs of 14,481 steps
    config.model.bn_groups = 8
    config.objective.beta = 14.3
    config.data.train = "data/yfcc15m/{00000..01483}.tar"
    config.optim.learning_rate = 5e-4
    config.optim.num_cycles = 7
    config.optim.warmup_steps = 10_000
    config.eval_steps = 14_481
    return config
