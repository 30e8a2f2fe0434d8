"""CLOOB or CLIP with a ViT-L/14 on the 407 million pairs of LAION-400M.

    python -m cloob_jax.main --config=configs/laion_vit_l14.py
    python -m cloob_jax.main --config=configs/laion_vit_l14.py:clip
    python -m cloob_jax.plan --config=configs/laion_vit_l14.py --topology=v5p:4x4x4

Batch 90,112 and learning rate 1e-3 as DataComp's largest scale has them for this model
(mlfoundations/datacomp, scale_configs.py), with 2,000 steps of warm-up and 32 epochs as
in the nearest run on this data, of batch 86,016 (Cherti et al. 2022: `L-14, 400M, 13B`
in trained_models_info.csv of LAION-AI/scaling-laws-openclip); weight decay and betas
are open_clip's defaults for vision transformers.
NOT published there, and chosen here: the clipping of gradients. CLOOB's scalars are
those of crowsonkb/cloob-training for ViT-B/16 on this data.

Hardware: 64 TPU chips of 95 GB, or 256 and more of 16 GB. Hours: not measured; the run
of batch 86,016 made 60,328 pairs/s on 768 GPUs, which is 61 hours.
Score to expect: ImageNet zero-shot of CLIP 72.77 (docs/PRETRAINED.md of open_clip, with
batch 38,400); of CLOOB none is published.
Data: tars of img2dataset from LAION's list, under data/laion400m.
"""

from ml_collections import ConfigDict

from configs import laion_vit_b16


def get_config(objective: str = "cloob") -> ConfigDict:
    """The recipe of ViT-B/16 with what differs."""
    config = laion_vit_b16.get_config(objective)
    config.batch_size = 90_112
    config.model.name = "ViT-L-14"
    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 2_000
    config.eval_steps = 4_520  # an epoch
    return config
