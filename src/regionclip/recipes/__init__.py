"""What a training run does, from start to end: the types of recipes, and how files are read."""

from .icons import IconsPretraining, IconsRecipe
from .reading import TASKS, Recipe, read_recipe, recipe_file, recipe_names, recipe_task
from .regionclip import STORED, PretrainRecipe, ProposalRecipe, TransferRecipe

__all__ = [
    "STORED",
    "TASKS",
    "IconsPretraining",
    "IconsRecipe",
    "PretrainRecipe",
    "ProposalRecipe",
    "Recipe",
    "TransferRecipe",
    "read_recipe",
    "recipe_file",
    "recipe_names",
    "recipe_task",
]
