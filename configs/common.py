"""The fields that every config has, with the values they have unless one says other.

A config is a function `get_config(arg)` that imports this file and ml_collections,
nothing else: reading one needs neither JAX nor a device. Any field can be set on the
command line: `--config.optim.learning_rate=1e-3`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """A config that lacks a model's name, data, a length and a learning rate."""
    config = ConfigDict(
        {
            "seed": 0,  # of the initial parameters, the order and the crops
            "batch_size": 512,  # pairs in a global batch, over all devices
            # Parts of each batch that are encoded one after the other, for the memory:
            # the gradient is that of the whole batch. bn_groups has to be a multiple.
            "accumulate_steps": 1,
            "total_steps": placeholder(int),
            # Pairs seen, repetitions included; decides instead of the steps if given.
            "total_examples": placeholder(int),
            "model": {
                "name": placeholder(str),  # open_clip's: RN50, ViT-B-32, ...
                "dtype": "bfloat16",  # of the computation; parameters are float32
                # Parts of the global batch that BatchNorm normalises separately: 1 is
                # synchronised, batch_size // 128 is the authors' 128 a GPU.
                "bn_groups": 1,
                "quick_gelu": True,  # as OpenAI; False: open_clip's models with GELU
                "context_length": placeholder(int),  # tokens; None: the model's own
                # What a layer keeps for its gradient, all, matrix products or nothing
                # but its input: none, dots or full. Saves memory, costs time.
                "remat": "none",
                "scan_layers": True,  # False: slower to compile, may run faster
                "attention": "auto",  # xla, cudnn; auto: cudnn where it works
            },
            # Fields that may have changed since the run was stopped, as in
            # batch_size,data.train; others on which the run depends are refused.
            "accept_changed": placeholder(str),
            # A run directory whose parameters this run starts from, and which of them:
            # image, text, or an expression found in their paths; None: all.
            "init_from": placeholder(str),
            "init_match": placeholder(str),
            "freeze": placeholder(str),  # parameters not trained, named in that way
            "objective": {
                "name": "cloob",  # or clip, infoloob, hopfield_infonce, siglip
                # None: the objective's own. cloob: 30 and 8; clip: 14.3, learned.
                "inv_tau": placeholder(float),
                "beta": placeholder(float),  # scale of the Hopfield retrieval
                "learn_inv_tau": placeholder(bool),
                # How its sums over all pairs are computed: plain holds N x N matrices,
                # gather and ring blocks of them; auto: the first whose memory is small.
                "form": "auto",
            },
            "data": {
                # A tar, a folder, a glob or a range: /data/{00000..00331}.tar; a CSV,
                # Parquet, ArrayRecord, tfds:NAME:SPLIT; A::B for both (README).
                "train": placeholder(str),
                # IMAGE,CAPTION: the names of these columns; None: each form's usual.
                "columns": placeholder(str),
                # 2::1: two examples of A for one of B; None: each pair once an epoch.
                "weights": placeholder(str),
                # A tokenizer.json of the tokenizers library; None: CLIP's.
                "tokenizer": placeholder(str),
                "image_size": placeholder(int),  # pixels; None: the model's own
                # window: pieces of 500 neighbouring records, 32 at a time, for buckets
                # and disks that are slow at reading one here and one there.
                "shuffle": "global",
                # Of the training crops; pil: exactly as torchvision with PIL, slower;
                # device: pictures of some 256 pixels are resized by the accelerator.
                "resize": "fast",
                "max_bad_fraction": 0.01,  # of the records seen, before a run stops
                "num_workers": 0,  # processes that decode; 0: threads of this one
                "num_threads": 2,  # in each process that decodes
                # A worker or a disk that brings no example for so long ends the run.
                "stall_seconds": 40,
                "shapes": placeholder(ConfigDict),  # data to draw first, if any
            },
            "optim": {
                "learning_rate": placeholder(float),
                "schedule": "cosine",  # or cosine_restarts, constant
                "num_cycles": 1,  # of cosine_restarts
                "warmup_steps": 0,
                "weight_decay": 0.1,  # on matrices, never on gains and biases
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "grad_clip_norm": placeholder(float),  # None: no clipping
                "ema_decay": placeholder(float),  # None: no average is kept
            },
            # Axes of the device mesh; one may be -1: what the others leave.
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            # Steps in a row without a finite loss and gradient that are skipped before
            # the run ends with an autopsy.
            "max_bad_steps": 3,
            # That a step may take, and six times that anything else, such as compiling,
            # before the run is taken for hung and ended.
            "hang_seconds": 600,
            "log_steps": 100,
            "checkpoint_steps": 1000,
            "keep_checkpoints": 3,  # of the latest
            "keep_every_steps": placeholder(int),  # steps whose multiples stay too
            # A metric whose best step stays as well, and which is saved when evaluated,
            # such as val/imagenet-zeroshot-val-top1.
            "keep_best": placeholder(str),
            "eval_steps": 5000,
            # Name -> {kind: zero_shot, retrieval, linear_probe, few_shot or spectrum,
            # root: a folder, split, and, if not the name and eval_steps above,
            # dataset: what people call it, eval_steps}; without a root it is left out.
            "evals": {
                # CLIP_benchmark's wds/imagenet1k, TFDS's imagenet2012, or a folder.
                "imagenet": {
                    "kind": "zero_shot",
                    "root": "",
                    "split": "test",
                    "eval_steps": placeholder(int),
                },
                # CLIP_benchmark's wds/mscoco_captions, or a folder of pictures and
                # captions: a list, Karpathy's or COCO's JSON, or Flickr's tokens.
                "coco": {
                    "kind": "retrieval",
                    "root": "",
                    "split": "test",
                    "captions": "",
                    "eval_steps": placeholder(int),
                },
            },
        }
    )
    return config.lock()  # so that a mistyped field is an error
