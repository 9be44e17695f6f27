"""What fine-tuning on base classes does to novel ones: RegionCLIP's ablation, on icons.

    python examples/forgetting_on_icons.py --seeds 3

Fine-tunes the model that ships on scenes in which only base icons have boxes (novel ones are there,
as background) in several ways, and measures AP50 of base and novel classes in other scenes, then in
other weathers than it was trained in. Writes a table in Markdown.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

import regionclip
from regionclip.data.icons import DOMAINS
from regionclip.data.icons.coco import write_coco
from regionclip.evaluation.icons import evaluate_icons
from regionclip.recipes import read_recipe
from regionclip.train import MODEL, train

WAYS = {
    "weighted cross-entropy": ("learner.classification_loss=weighted", "learner.focal_gamma=none"),
    "focal scaling 0.5": ("learner.classification_loss=focal_scaled", "learner.focal_gamma=0.5"),
    "focal scaling, class vectors trained": (
        "learner.classification_loss=focal_scaled",
        "learner.focal_gamma=0.5",
        "learner.class_embeddings=trained",
    ),
}
FIGURES = ("ap50_novel", "ap50_base", "ap50_all")


def main() -> None:
    """Draw, train, measure, tabulate."""
    parser = argparse.ArgumentParser(description="Measure what fine-tuning forgets, on icons.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scenes", type=int, default=400, help="to train on; a quarter to test on")
    parser.add_argument("--weather-scenes", type=int, default=60, help="per weather")
    parser.add_argument("--output", type=Path, default=Path("runs/forgetting"))
    options = parser.parse_args()
    data = draw_data(options.output / "data", options.scenes)
    results: dict[str, list[dict[str, float]]] = {}
    for way, changes in WAYS.items():
        for seed in range(options.seeds):
            folder = options.output / f"{way.replace(' ', '_')}-{seed}"
            before, after = fine_tune(data, folder, seed, options.steps, changes)
            results.setdefault("before fine-tuning", []).append(before)
            results.setdefault(way, []).append(after)
    lines = table_of(results)
    trained = options.output / "focal_scaling_0.5-0" / MODEL
    lines += ["", *weathers(trained, options.weather_scenes)]
    (options.output / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def draw_data(folder: Path, num_scenes: int) -> Path:
    """Scenes by day: boxes of base classes to train on, of all classes to test on."""
    for split, count, seed in (("train", num_scenes, 70), ("val", num_scenes // 4, 71)):
        if (folder / split / f"instances_{split}.json").exists():
            continue
        write_coco(folder / split, num_scenes=count, seed=seed)
        content = json.loads((folder / split / "instances.json").read_text())
        if split == "train":
            base = [each for each in content["categories"] if each["split"] == "base"]
            kept = {each["id"] for each in base}
            rows = [each for each in content["annotations"] if each["category_id"] in kept]
            content |= {"categories": base, "annotations": rows}
        (folder / split / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def fine_tune(
    data: Path, folder: Path, seed: int, steps: int, changes: tuple[str, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """Figures before the first step and after the last."""
    settings = (
        f"data.train={data}/train/instances_train.json",
        f"data.val={data}/val/instances_val.json",
        f"data.image_root={data}/train/images",
        f"data.val_image_root={data}/val/images",
        "proposal_training=none",
        f"run.seed={seed}",
        f"optimization.steps={steps}",
        "optimization.learning_rate=2e-4",
        f"measuring.every={steps}",
        "measuring.metric=ap50_novel",
        "shortest_side=256",
        "longest_side=512",
        "augmentation.shortest_sides=[224, 256]",
        "augmentation.longest_side=512",
        "learner.background_weight=0.2",
        "learner.freeze_at=2",
        *changes,
    )
    train(read_recipe("finetune-small", settings), folder)
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = [each["evaluation"] for each in entries if "evaluation" in each]
    return measured[0], measured[-1]


def table_of(results: dict[str, list[dict[str, float]]]) -> list[str]:
    """Mean and standard deviation over seeds, in percent."""
    lines = ["| way | novel AP50 | base AP50 | all AP50 |", "|---|---|---|---|"]
    for way, rows in results.items():
        cells = [mean_and_spread([row[figure] for row in rows]) for figure in FIGURES]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def mean_and_spread(shares: list[float]) -> str:
    """In percent, such as ``81.5 ± 2.8``."""
    spread = f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * fmean(shares):.1f}{spread}"


def weathers(weights: Path, num_scenes: int) -> list[str]:
    """AP50 of the start model and of one trained by day, in every weather."""
    lines = ["| weather | before | trained by day |", "|---|---|---|"]
    for domain in DOMAINS:
        cells = []
        for model in ("icons", str(weights)):
            report = evaluate_icons(
                regionclip.load(model), num_scenes=num_scenes, seed=72, domain=domain
            )
            cells.append(f"{100 * report.metrics['ap50_all']:.1f}")
        lines.append(f"| {domain} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
