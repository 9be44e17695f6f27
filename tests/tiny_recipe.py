"""The smallest recipe: seconds for all stages, nothing learned that would be of use."""

import torch
from torch import nn

from regionclip.encoders.clip_resnet import ClipResNetSpec
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.pretrain_config import PretrainConfig
from regionclip.proposals.rpn import RpnConfig
from regionclip.recipes import IconsPretraining, IconsRecipe
from regionclip.recipes.settings import RunSettings
from regionclip.training import Optimization

TINY = RegionClipConfig(
    encoder=ClipResNetSpec(
        name="tiny",
        embed_dim=16,
        image_size=64,
        layers=(1, 1, 1, 1),
        width=8,
        text_width=16,
        text_heads=2,
        text_layers=1,
        context_length=32,
        vocab_size=600,
        quick_gelu=False,
    ),
    rpn=RpnConfig(
        layers=(1, 1),
        width=8,
        strided_conv="conv2",
        pyramid_channels=8,
        anchor_sizes=((24.0,), (48.0,), (80.0,)),
    ),
    shortest_side=96,
    longest_side=192,
)


def plan(steps: int, batch_size: int) -> Optimization:
    return Optimization(
        steps=steps, batch_size=batch_size, learning_rate=1e-3, optimizer="adamw", schedule="cosine"
    )


REGIONS = plan(2, 2)
PRETRAINING = IconsPretraining(
    optimization=plan(2, 2),
    learner=PretrainConfig(regions_per_image=8, min_concept_score=0.0),
    pool_captions=60,
    pool_min_count=2,
)
RECIPE = IconsRecipe(
    model=TINY,
    captions=plan(2, 4),
    regions=REGIONS,
    proposals=plan(2, 2),
    region_captions=4,
    caption_image_sizes=(64,),
    run=RunSettings(precision="fp32", num_workers=0, checkpoint_every=1, log_every=1),
)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}
