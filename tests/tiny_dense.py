"""A dense ViT of a few thousand parameters, by open_clip's own modules."""

from collections.abc import Sequence

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.encoders.tokenizer import clip_tokenizer


class TinyDense(nn.Module):
    """Patches of 8 pixels, whole images of 32; any multiple of 8 is fine."""

    reading = ""
    encoder_id = "tiny-dense"
    embed_dim, cell, image_size = 10, 8, 32
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, *, blocks: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.clip = CLIP(
            embed_dim=10,
            vision_cfg=CLIPVisionCfg(
                layers=blocks, width=16, head_width=8, patch_size=8, image_size=32
            ),
            text_cfg=CLIPTextCfg(context_length=16, vocab_size=600, width=16, heads=2, layers=1),
        )
        self._tokenize = clip_tokenizer(num_merges=86, context_length=16)

    @property
    def device(self) -> torch.device:
        return self.clip.logit_scale.device

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return self._tokenize(list(texts))

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        padding = tokens.new_zeros(len(tokens), 16 - tokens.shape[1])
        return self.clip.encode_text(torch.cat([tokens, padding], dim=1))

    def _tokens(self, images: Tensor) -> Tensor:
        visual = self.clip.visual
        patches = visual.conv1(images)
        height, width = patches.shape[2:]
        patches = patches.flatten(2).transpose(1, 2)
        own = visual.class_embedding.expand(len(patches), 1, -1)
        grid = visual.positional_embedding[1:].T.reshape(1, -1, 4, 4)
        grid = F.interpolate(grid, (height, width), mode="bicubic").flatten(2).transpose(1, 2)
        positions = torch.cat([visual.positional_embedding[None, :1], grid], dim=1)
        return visual.ln_pre(torch.cat([own, patches], dim=1) + positions)

    def encode_image(self, images: Tensor) -> Tensor:
        visual = self.clip.visual
        tokens = visual.transformer(self._tokens(images))
        return visual.ln_post(tokens[:, 0]) @ visual.proj

    def dense_features(self, images: Tensor) -> Tensor:
        visual = self.clip.visual
        tokens = self._tokens(images)
        *first, last = visual.transformer.resblocks
        for block in first:
            tokens = block(tokens)
        own = tokens[:, 1:]
        width = own.shape[2]
        values = F.linear(
            last.ln_1(own), last.attn.in_proj_weight[-width:], last.attn.in_proj_bias[-width:]
        )
        own = own + last.attn.out_proj(values)
        own = own + last.mlp(last.ln_2(own))
        vectors = F.normalize(visual.ln_post(own) @ visual.proj, dim=2)
        height, columns = images.shape[2] // 8, images.shape[3] // 8
        return vectors.transpose(1, 2).reshape(len(images), 10, height, columns)

    def dense_and_whole(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.dense_features(images), self.encode_image(images)
