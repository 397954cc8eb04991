"""Training against a plain loop and transformers.Trainer, interleaved in one run.

``python benchmarks/train.py --data DIR [--rows 2000] [--whole] [--runs 3] [--scenario full …]``
(needs accelerate: ``pip install -c constraints.txt -e '.[bench]'``)

Every way trains both tasks on the same rows for the same epochs; what is compared is rows a second
of the whole run: tokenising, any preparation, and all epochs. The plain loop is the one of the
project's seed: fp32, batches of 32 as they come padded to the longest, one optimizer, everything
encoded in every epoch. On a GPU if there is one. Prints JSON and a Markdown table.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from mtl_core.config import ModelConfig, TrainConfig, train_config
from mtl_core.data.draws import sample_rows
from mtl_core.data.splits import LabelledTexts, load_split
from mtl_core.model.network import MultiTaskModel, build_model
from mtl_core.model.precision import best_device
from mtl_core.tasks import DEFAULT_TASKS
from mtl_core.token_ids import TokenIds
from mtl_core.training.loop import TrainingLoop
from mtl_core.training.preparation import encode_splits
from mtl_core.training.scenarios import apply_scenario, set_training_mode

DEVICE = best_device()
SCORED = 500
"""Rows of each task kept aside, scored when the clock has stopped."""

Splits = dict[str, tuple[LabelledTexts, LabelledTexts]]


def fresh_model(config: TrainConfig) -> MultiTaskModel:
    """The same start for every way."""
    torch.manual_seed(0)
    return build_model(ModelConfig(logit_scale=config.logit_scale))[0].to(DEVICE)


def accuracy(model: MultiTaskModel, splits: Splits) -> dict[str, float]:
    """Held-out accuracy by task."""
    return {
        name: float(
            np.mean(
                [
                    task.labels[kept.labels[row]] == answer[name]
                    for row, answer in enumerate(model.predict(kept.texts))
                ]
            )
        )
        for task in DEFAULT_TASKS
        for name, (_, kept) in ((task.name, splits[task.name]),)
    }


def plain_loop(splits: Splits, config: TrainConfig) -> MultiTaskModel:
    """The seed's loop: fp32, shuffled batches of 32 padded to the longest, one rate."""
    model = fresh_model(config)
    apply_scenario(model, config)
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen_backbone = config.scenario == "freeze-backbone"
    rate = config.head_learning_rate if frozen_backbone else config.backbone_learning_rate
    optimizer = torch.optim.AdamW(trained, lr=rate)
    generator = np.random.default_rng(0)
    for _ in range(config.epochs):
        set_training_mode(model)
        batches = [
            (name, rows)
            for name, (data, _) in splits.items()
            for rows in np.array_split(generator.permutation(len(data)), len(data) // 32 + 1)
        ]
        for index in generator.permutation(len(batches)):
            name, rows = batches[index]
            data = splits[name][0]
            ids = model.tokenizer([data.texts[row] for row in rows], config.max_tokens)
            padded = (tensor.to(DEVICE) for tensor in model.tokenizer.pad(ids))
            logits = model(*padded, task=name)
            loss = F.cross_entropy(logits, torch.from_numpy(data.labels[rows]).to(DEVICE))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def trainer(splits: Splits, config: TrainConfig) -> MultiTaskModel:
    """transformers.Trainer with its defaults; each batch holds one task's rows."""
    from transformers import Trainer, TrainingArguments

    model = fresh_model(config)
    apply_scenario(model, config)

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, labels, task):  # type: ignore[no-untyped-def]
            embedding = self.model.encoder(input_ids, attention_mask)
            losses = [
                F.cross_entropy(
                    self.model.head_logits(embedding[task == i], t.name), labels[task == i]
                )
                for i, t in enumerate(DEFAULT_TASKS)
                if bool((task == i).any())
            ]
            return {"loss": torch.stack(losses).mean()}

    rows = [
        {"ids": ids, "label": int(label), "task": index}
        for index, task in enumerate(DEFAULT_TASKS)
        for data in (splits[task.name][0],)
        for ids, label in zip(
            model.tokenizer(data.texts, config.max_tokens), data.labels, strict=True
        )
    ]

    def collate(batch):  # type: ignore[no-untyped-def]
        ids, mask = model.tokenizer.pad(TokenIds.of([row["ids"] for row in batch]))
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": torch.tensor([row["label"] for row in batch]),
            "task": torch.tensor([row["task"] for row in batch]),
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=config.epochs, save_strategy="no", report_to=[],
            remove_unused_columns=False, disable_tqdm=True, logging_strategy="no",
            use_cpu=DEVICE.type == "cpu",
        )  # fmt: skip
        Trainer(Wrapped(), arguments, train_dataset=rows, data_collator=collate).train()
    return model


def ours(splits: Splits, config: TrainConfig) -> MultiTaskModel:
    """This project's loop, preparation included."""
    model = fresh_model(config)
    # The held-out rows of a real run: 2 %, scored after each epoch. The others score none.
    rows = np.arange(max(1, round(0.02 * min(len(train) for train, _ in splits.values()))))
    few = {name: (train, kept.take(rows[:SCORED])) for name, (train, kept) in splits.items()}
    with tempfile.TemporaryDirectory() as folder:
        training, held_out = encode_splits(few, model, model.tokenizer, config, Path(folder), {})
        TrainingLoop(model, model.tokenizer, training, held_out, config).run()
    return model


WAYS: dict[str, Callable[[Splits, TrainConfig], MultiTaskModel]] = {
    "plain loop": plain_loop,
    "Trainer": trainer,
    "mtl-batch": ours,
}


def compare(
    scenario: str, splits: Splits, whole: Splits, runs: int, epochs: int
) -> dict[str, object]:
    """Medians of the rows a second of each way, and of the ratios to ours, run by run.

    Args:
        splits: what the other ways train on.
        whole: what ours trains on; the same, or all rows.
    """
    config = train_config("recommended", scenario=scenario, epochs=epochs)
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    scores: dict[str, dict[str, float]] = {}
    for _ in range(runs):
        for way, train in WAYS.items():
            own = whole if way == "mtl-batch" else splits
            rows = sum(len(data) for data, _ in own.values()) * epochs
            started = time.perf_counter()
            model = train(own, config)
            speeds[way].append(rows / (time.perf_counter() - started))
            scores[way] = accuracy(model, splits)
    return {
        "scenario": scenario,
        "rows_per_s": {way: statistics.median(each) for way, each in speeds.items()},
        "times_faster": {
            way: statistics.median(
                own / other for other, own in zip(each, speeds["mtl-batch"], strict=True)
            )
            for way, each in speeds.items()
        },
        "held_out_accuracy": scores,
    }


def main() -> None:
    """Measure, print JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000, help="of each task; 0: all")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="mtl-batch trains on all rows: its preparation is made for many",
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--scenario", nargs="+", default=["freeze-backbone", "last-layers", "full"])
    options = parser.parse_args()
    splits: Splits = {}
    whole: Splits = {}
    for task in DEFAULT_TASKS:
        data = load_split(task, "train", options.data)
        rows = np.random.default_rng(1).permutation(len(data))
        kept, train = data.take(rows[:SCORED]), data.take(rows[SCORED:])
        splits[task.name] = (sample_rows(train, options.rows or None, seed=1), kept)
        whole[task.name] = (train, kept) if options.whole else splits[task.name]
    report = [
        compare(each, splits, whole, options.runs, options.epochs) for each in options.scenario
    ]
    machine = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "rows": {name: len(split[0]) for name, split in splits.items()},
        "rows_of_mtl_batch": {name: len(split[0]) for name, split in whole.items()},
        "epochs": options.epochs,
        "runs": options.runs,
    }
    print(json.dumps({**machine, "scenarios": report}, indent=2))
    print("| scenario | way | rows/s | times faster is mtl-batch | held-out accuracy |")
    print("|---|---|---|---|---|")
    for each in report:
        for way in WAYS:
            held_out = ", ".join(f"{n} {v:.3f}" for n, v in each["held_out_accuracy"][way].items())  # type: ignore[index]
            print(
                f"| {each['scenario']} | {way} | {each['rows_per_s'][way]:,.0f} "  # type: ignore[index]
                f"| {each['times_faster'][way]:.1f} | {held_out} |"  # type: ignore[index]
            )


if __name__ == "__main__":
    main()
