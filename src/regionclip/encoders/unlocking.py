"""Which parts of an encoder learn: the last blocks of its image tower, and nothing else.

Parts are known by the names of their parameters, which are alike in all wrappers of a tower:
OpenAI's and open_clip's ViTs have ``visual.transformer.resblocks``, EVA-02's and timm's ``blocks``,
ConvNeXt ``stages`` of blocks, ResNets ``layer4``.
"""

import re
from collections.abc import Mapping, Sequence

from torch import nn

BLOCK = re.compile(r"(?:^|\.)visual\.(?:.+\.)?(?:resblocks|blocks)\.(\d+)\.")
STAGE = re.compile(r"(?:^|\.)visual\.(?:.+\.)?stages\.(\d+)\.")
STEM = re.compile(r"(?:^|\.)visual\.(?:.+\.)?stem\.")
OPENAI_VIT = re.compile(r"(?:^|\.)visual\.transformer\.resblocks\.")
POSITIONS = re.compile(r"(?:^|\.)visual\.positional_embedding$")
PATCHES = re.compile(r"(?:^|\.)visual\.(?:conv1|class_embedding|ln_pre)(?:\.|$)")
LAYER4 = re.compile(r"(?:^|\.)visual\.layer4\.")
POOL = re.compile(r"(?:^|\.)visual\.attnpool\.(?:[qk]_proj\.|positional_embedding$)")
KEY_BIAS = re.compile(r"(?:^|\.)visual\.attnpool\.k_proj\.bias$")
ASKING = re.compile(r"\.attn\.(?:q_proj\.|k_proj\.|q_bias$)")
LOGIT_SCALE = re.compile(r"(?:^|\.)logit_scale$")


def unlock_last_groups(encoder: object, count: int) -> None:
    """Freeze an encoder but for the last groups of its image tower and its logit scale.

    Groups, from the last on: blocks; of OpenAI's ViTs then the positional embedding, then patches,
    class token and first norm. Of ConvNeXt, stages, then the stem. Of ResNets, what asks the
    attention pool (queries, keys, positions), then layer4, without batch norms. The last norm, the
    projection, and what the attention pool answers with (values and output) are never unlocked:
    they are what the joint space is.

    Args:
        encoder: With an image tower ``visual``.
        count: Groups to unlock, at least one.

    Raises:
        ValueError: The tower has fewer groups, or is of no known kind.

    Source:
        wusize/CLIPSelf@1c7fe9c and wusize/CLIM@7baade3 (``--lock-image-unlocked-groups``). There 0
        unlocks all blocks of EVA-02.
    """
    module = module_of(encoder)
    groups = image_groups(module)
    if not 1 <= count <= len(groups):
        raise ValueError(
            f"unlocked_groups must be in [1, {len(groups)}] for this image tower, got {count}"
        )
    module.requires_grad_(False)
    for group in groups[-count:]:
        for parameter in group:
            parameter.requires_grad_(True)
    logit_scale_of(module).requires_grad_(True)


def freeze_unread(encoder: object) -> None:
    """Freeze also what a loss on regions alone never reads: it would have no gradient.

    Those are the logit scale, and queries and keys of the last block, where they are parameters of
    their own. Of an attention pool over regions it is the key bias, which adds one number to all
    scores. Processes that average gradients would wait for theirs.
    """
    named = dict(module_of(encoder).named_parameters())
    numbers = [int(found[1]) for name in named if (found := BLOCK.search(name))]
    for name, parameter in named.items():
        found = BLOCK.search(name)
        is_last = found is not None and int(found[1]) == max(numbers)
        is_unread = LOGIT_SCALE.search(name) or KEY_BIAS.search(name)
        if is_unread or (is_last and ASKING.search(name)):
            parameter.requires_grad_(False)


def image_groups(encoder: object) -> list[list[nn.Parameter]]:
    """The groups that :func:`unlock_last_groups` counts, the first ones first.

    Raises:
        ValueError: The tower is of no known kind.
    """
    module = module_of(encoder)
    named = dict(module.named_parameters())
    stages = _numbered(named, STAGE)
    if stages:
        return [_matching(module, STEM), *stages]
    blocks = _numbered(named, BLOCK)
    if blocks:
        is_openai = any(OPENAI_VIT.search(name) for name in named)
        before = [_matching(module, each) for each in (PATCHES, POSITIONS)] if is_openai else []
        return [*before, *blocks]
    groups = [group for group in (_matching(module, LAYER4), _matching(module, POOL)) if group]
    if not groups:
        raise ValueError(
            "this image tower has neither numbered blocks nor a layer4, so nothing says which of "
            "its parts are the last"
        )
    return groups


def logit_scale_of(encoder: object) -> nn.Parameter:
    """The logarithm of what an encoder's similarities are multiplied by.

    Raises:
        ValueError: It has none.
    """
    found = _matching(module_of(encoder), LOGIT_SCALE)
    if not found:
        raise ValueError("this encoder has no logit_scale to learn; give one with a text tower")
    return found[0]


def module_of(encoder: object) -> nn.Module:
    """An encoder as the module that it has to be to learn.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(encoder, nn.Module):
        raise TypeError(
            f"only torch modules can be trained, and this is a {type(encoder).__name__}"
        )
    return encoder


def _numbered(
    named: Mapping[str, nn.Parameter], pattern: re.Pattern[str]
) -> list[list[nn.Parameter]]:
    """Parameters by the number in their names, in its order; none if no name has one."""
    groups: dict[int, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        found = pattern.search(name)
        if found is not None:
            groups.setdefault(int(found[1]), []).append(parameter)
    return [groups[number] for number in sorted(groups)]


def _matching(encoder: nn.Module, pattern: re.Pattern[str]) -> list[nn.Parameter]:
    """Parameters by name, those of batch norms left out."""
    norms = _batch_norm_parameters(encoder)
    return [
        parameter
        for name, parameter in encoder.named_parameters()
        if pattern.search(name) and id(parameter) not in norms
    ]


def _batch_norm_parameters(encoder: nn.Module) -> set[int]:
    modules: Sequence[nn.Module] = [
        each for each in encoder.modules() if isinstance(each, nn.BatchNorm2d)
    ]
    return {id(parameter) for module in modules for parameter in module.parameters()}
