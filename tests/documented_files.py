"""What pages name beside data and the first models: released files of all systems, made small."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from regionclip.cli import main
from regionclip.concepts.class_names import builtin_ids
from regionclip.loading.mean_clip import save_model as save_mean
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clim.reading import save_model as save_clim
from regionclip.methods.cora.reading import save_model as save_cora
from regionclip.methods.detic import cascade_reading
from regionclip.methods.detic.cascade_model import carry_classes
from regionclip.methods.fvit.model import carry_classes as carry_fvit_classes
from regionclip.methods.fvit.reading import save_model as save_fvit
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel
from regionclip.methods.regionclip.reading import save_model as save_regionclip
from tests.cascade_files import tiny_cascade
from tests.cora_files import TINY_CORA, tiny_cora
from tests.data.splitting.test_benchmarks import official
from tests.documented import BOXES, MODEL, PRETRAINED, RPN, TOWER, write_voc
from tests.fvit_files import TINY_FVIT, tiny_fvit
from tests.painted_segments import write_segments
from tests.tiny_clip import TINY, tiny_clip
from tests.tiny_dense import TINY_VIT, tiny_dense
from tests.tiny_mean import tiny_mean
from tests.tiny_recipe import TINY as TINY_DETECTOR

TWELVE_BLOCKS = "twelve_blocks.safetensors"
"""A tower whose blocks 3, 5, 7 and 11 a detector can take."""
COPIES = {
    PRETRAINED: (
        "downloads/regionclip_pretrained-cc_rn50.pth",
        "regionclip_finetuned-coco_rn50.pth",
    ),
    RPN: ("rpn_lvis_866.pth", "rpn_lvis_866_lsj.pth"),
    TOWER: (
        "eva_vitb16_coco_clipself_patches.pt",
        "eva_vitb16_coco_clipself_proposals.pt",
        "openai_vitb16_coco_clim.pt",
    ),
    TWELVE_BLOCKS: ("runs/clipself-proposals-coco-vitb16/model.safetensors",),
    "region_prompt_R50.pth": (
        "region_prompt.pth",
        "runs/cora-region-prompt-coco-rn50/region_prompt.pth",
    ),
    "checkpoint_best.pth": (
        "checkpoint.pth",
        "cora.safetensors",
        "runs/cora-ov-coco-rn50x4/model.safetensors",
    ),
    "fvit_eva_vitb16_ov_coco.pth": (
        "fvit_eva_vitb16_ov_lvis.pth",
        "runs/fvit-ov-lvis-vitb16/model.safetensors",
        "ovdet_openai_vitb16_ov_coco_clim.pth",
    ),
}
"""Files, and other names that pages have for what may as well be the same."""
FVIT_TEXTS = "EVA02_CLIP_B_psz16_s8B.pt"
CARRIED = ("kite", "cup")


def write_files(folder: Path) -> None:
    """Into a folder that :func:`tests.documented.write_world` has filled."""
    _write_models(folder)
    for name, others in COPIES.items():
        for other in others:
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, folder / other)
    names = ("cat", "remote control", "red cup")
    for name in ("names.txt", "concepts.txt"):
        (folder / name).write_text("\n".join(names) + "\n")
    (folder / "coco_nouns_4764.txt").write_text("\n".join(names) + "\n")
    torch.save(torch.randn(len(names), 16), folder / "coco_nouns_4764_emb.pth")
    torch.save(torch.randn(65, 16), folder / "coco_65_cls_emb.pth")
    _write_pictures(folder)
    _write_panoptic(folder)
    _write_captions(folder)
    _split(folder)
    _write_data(folder)
    train = json.loads((folder / "val.json").read_text())
    shutil.copytree(folder / "val", folder / "train")
    (folder / "train.json").write_text(json.dumps(train))
    boxes = [
        {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for x0, y0, x1, y1 in BOXES
    ]
    images = [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 64}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "object"}]}
    (folder / "boxes.json").write_text(json.dumps(content))


def _write_models(folder: Path) -> None:
    cora = tiny_cora(replace(TINY_CORA, templates="photo"))
    save_cora(folder / "checkpoint_best.pth", cora)
    fvit = tiny_fvit(TINY_FVIT)
    carry_fvit_classes(fvit, CARRIED, torch.randn(2, 12))
    save_fvit(folder / "fvit_eva_vitb16_ov_coco.pth", fvit, has_text_tower=False)
    save_fvit(folder / FVIT_TEXTS, fvit)
    heads = {"box_regression": True, "mask_head": True, "class_names": "lvis1203"}
    lvis = RegionClip(replace(TINY_DETECTOR, **heads, num_train_classes=866, num_test_classes=1203))
    read = ReadModel(lvis, has_text_tower=False, reports=())
    save_regionclip(folder / "regionclip_finetuned-lvis_rn50.pth", read)
    cascade = tiny_cascade()
    carry_classes(cascade, CARRIED, torch.randn(2, 12))
    path = folder / "detic_lvis_clim_centernet2.pth"
    cascade_reading.save_cascade(path, cascade, has_text_tower=True)
    # heads as wide as OpenAI's, which is all that shapes tell
    spec = replace(TINY_VIT, width=64, head_width=64, text_width=64, text_heads=1)
    torch.save(tiny_dense(spec).clip.state_dict(), folder / "laion_vitb16.pt")
    resnet = tiny_clip(spec=replace(TINY, text_width=64, text_heads=1)).clip.state_dict()
    torch.save(resnet, folder / "openai_rn50x64_cc3m_clim.pt")
    save_mean(folder / "unicl_swin_b.pth", tiny_mean("swin"))
    prompt = load_file(folder / MODEL)["encoder.clip.visual.attnpool.positional_embedding"]
    torch.save({"attnpool.positional_embedding": prompt}, folder / "region_prompt_R50.pth")
    whole = replace(spec, embed_dim=12, layers=12)
    own = Clim(ClimConfig(vit=whole, longest_side=64, templates="photo"))
    save_clim(folder / TWELVE_BLOCKS, own)


def _write_pictures(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    for name in ("street.jpg", "photo.jpg", "scene.png"):
        Image.fromarray(pixels).save(folder / name)
    shutil.copytree(folder / "photos", folder / "my_photos")
    with av.open(str(folder / "street.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())


def _write_panoptic(folder: Path) -> None:
    write_segments(folder / "painted")
    (folder / "painted" / "segments.json").rename(folder / "panoptic_val2017.json")
    (folder / "painted" / "segments").rename(folder / "panoptic_val2017")
    (folder / "painted" / "images").rename(folder / "val2017")


def _write_captions(folder: Path) -> None:
    """The shard of captions under other names, as a json, and the pool of its concepts."""
    for name in ("shards", "cc3m"):
        shutil.copytree(folder / "my_captions", folder / name)
    (folder / "shards" / "00000.tar").rename(folder / "shards" / "train-00000.tar")
    content = json.loads((folder / "val.json").read_text())
    captions = [
        {"id": number, "image_id": image["id"], "caption": "a small dog and a cat on a table"}
        for number, image in enumerate(content["images"] * 3, start=1)
    ]
    content = {"images": content["images"], "annotations": captions}
    (folder / "captions_train2017.json").write_text(json.dumps(content))
    shutil.copytree(folder / "val", folder / "train2017")
    pool = str(folder / "cc3m_concepts.safetensors")
    _run(
        "concepts",
        "build",
        str(folder / "names.txt"),
        "--student",
        str(folder / MODEL),
        output=pool,
    )


def _split(folder: Path) -> None:
    """Open-vocabulary COCO's files, and some as relabelling leaves them."""
    annotations = folder / "coco" / "annotations"
    _run("data", "split", str(folder / "coco"), "--benchmark", "ov-coco", output=str(annotations))
    base = annotations / "ovd_ins_train2017_b.json"
    for size in ("rn50", "rn50x4"):
        shutil.copy(base, base.with_stem(f"{base.stem}_{size}relabel"))


def _write_data(folder: Path) -> None:
    """What the page on data sets has beside COCO and BCCD."""
    write_voc(folder / "VOC2007")
    content = json.loads((folder / "coco/annotations/ovd_ins_train2017_b.json").read_text())
    images = [
        each | {"file_name": f"coco/train2017/{each['file_name']}"} for each in content["images"]
    ]
    (folder / "train_base.json").write_text(json.dumps(content | {"images": images}))
    (folder / "lvis").mkdir()
    images = [
        {"id": 9, "width": 64, "height": 64, "coco_url": "http://x/train2017/000000000009.jpg"}
    ]
    objects = [
        {"id": number, "image_id": 9, "category_id": category, "area": 4, "bbox": [1, 1, 2, 2]}
        for number, category in enumerate((1, 3), start=1)
    ]
    lvis = official("lvis1203", images=images, annotations=objects)
    (folder / "lvis" / "lvis_v1_train.json").write_text(json.dumps(lvis))
    rare = set(builtin_ids("lvis337"))
    for each in lvis["categories"]:
        each["frequency"] = "r" if each["id"] in rare else "f"
    images[0] |= {"coco_url": "http://x/val2017/1.jpg", "neg_category_ids": [2]}
    images[0] |= {"not_exhaustive_category_ids": []}
    for each in objects:
        each["segmentation"] = [[1, 1, 3, 1, 3, 3]]
    (folder / "lvis" / "lvis_v1_val.json").write_text(json.dumps(lvis))


def _run(*words: str, output: str) -> None:
    if main([*words, "--output", output]) != 0:
        raise RuntimeError(f"failed: {shlex.join(words)}")
