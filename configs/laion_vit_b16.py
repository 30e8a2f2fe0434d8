"""CLOOB or CLIP with a ViT-B/16 on the 407 million pairs of LAION-400M.

    python -m cloob_jax.main --config=configs/laion_vit_b16.py
    python -m cloob_jax.main --config=configs/laion_vit_b16.py:clip
    python -m cloob_jax.plan --config=configs/laion_vit_b16.py --topology=v5e:16x16

The recipe is that of open_clip's `laion400m_e32`: 32 epochs, 10,000 steps of warm-up,
and its defaults for vision transformers (learning rate 5e-4, betas 0.9 and 0.98, weight
decay 0.2). Its batch was 33,792, of 176 GPUs with 192 pairs each.
NOT published there, and chosen here: the clipping of gradients. CLOOB's scalars are
those of crowsonkb/cloob-training for this model and data.

Hardware: 256 TPU chips of 16 GB. Hours: not measured; open_clip took 61 on 176 A100.
Score to expect: ImageNet zero-shot of CLIP 67.07 (docs/PRETRAINED.md of open_clip), of
CLOOB 62.8 (cloob-training, another recipe).
Data: tars of img2dataset from LAION's list, under data/laion400m.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(objective: str = "cloob") -> ConfigDict:
    """open_clip's recipe, for any objective."""
    config = common.get_config()
    config.batch_size = 32_768
    config.total_examples = 13_034_626_688  # 32 epochs of 407,332,084
    config.model.name = "ViT-B-16"
    config.model.quick_gelu = False
    config.model.remat = "full"  # without it a chip of 16 GB does not hold 128 pairs
    config.objective.name = objective
    if objective in ("cloob", "hopfield_infonce"):
        config.objective.beta = 15.0
    config.data.train = "data/laion400m/{00000..41455}.tar"
    config.data.num_workers = 8
    config.data.num_threads = 1
    config.optim.learning_rate = 5e-4
    config.optim.warmup_steps = 10_000
    config.optim.weight_decay = 0.2
    config.optim.b2 = 0.98
    config.optim.eps = 1e-6
    config.optim.grad_clip_norm = 1.0
    config.eval_steps = 12_430  # an epoch
    return config
