"""What a training run does, from start to end: the types of recipes, and how files are read."""

from .clim import ClimRecipe, ClipSelfRecipe, PseudoLabelRecipe
from .cora import CoraRecipe, RegionPromptRecipe
from .detic import CascadeRecipe, DeticRecipe
from .fvit import FvitRecipe
from .icons import IconsPretraining, IconsRecipe, IconsVitRecipe
from .reading import TASKS, Recipe, read_recipe, recipe_file, recipe_names, recipe_task
from .regionclip import STORED, PretrainRecipe, ProposalRecipe, TransferRecipe

__all__ = [
    "STORED",
    "TASKS",
    "CascadeRecipe",
    "ClimRecipe",
    "ClipSelfRecipe",
    "CoraRecipe",
    "DeticRecipe",
    "FvitRecipe",
    "IconsPretraining",
    "IconsRecipe",
    "IconsVitRecipe",
    "PretrainRecipe",
    "ProposalRecipe",
    "PseudoLabelRecipe",
    "Recipe",
    "RegionPromptRecipe",
    "TransferRecipe",
    "read_recipe",
    "recipe_file",
    "recipe_names",
    "recipe_task",
]
