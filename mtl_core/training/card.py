"""The model card: what a model is, on what it was trained, what it reaches, under which terms."""

from collections.abc import Collection
from typing import Any

from mtl_core.config import UNTYPICAL_BELOW, ModelConfig
from mtl_core.evaluation.facts import NOT_SETTINGS
from mtl_core.evaluation.suspects import SUSPECTS
from mtl_core.tasks import DEFAULT_TASKS

TERMS = (
    "AG News was released by its authors for research and other non-commercial use; SST-2 comes "
    "with no explicit licence beyond its paper (Zhang et al. 2015; Socher et al. 2013). The "
    "backbone all-MiniLM-L6-v2 is Apache-2.0. Check that your use of this model fits these terms."
)


def model_card(
    name: str, config: ModelConfig, training: dict[str, Any], facts: dict[str, Any]
) -> str:
    """A model's ``README.md``, made from what the run recorded.

    Args:
        training: the run's settings, as in ``config.json``.
        facts: as in ``metrics.json``.
    """
    shipped = any(task in DEFAULT_TASKS for task in config.tasks)
    lines = [
        f"# {name}",
        "",
        f"A shared sentence encoder (`{config.backbone}`, masked mean pooling, projection to "
        f"{config.embedding_size}, tanh, unit length) with a linear head for each task.",
        "",
        "## Tasks and data",
        "",
        *_data(config, training, facts),
        "",
        *_notes(training, facts),
        *_suspects(facts),
        *([f"Terms: {TERMS}", ""] if shipped else []),
        "## Metrics on the official splits",
        "",
        *_figures(facts),
        *_unseen(facts),
        *_similarity(facts),
        *_typicality(facts),
        *_zero_shot(facts),
        "",
        "## How it was made",
        "",
        *_making(config, training, facts),
        "",
    ]
    return "\n".join(lines)


def _data(config: ModelConfig, training: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    if "from" in training:
        new = {task for task, found in facts["checked"].items() if found.get("new")}
        return _new_heads(config, training, new)
    return [
        f"- **{task.name}**: {', '.join(task.labels)}; trained on {training['rows'][task.name]:,} "
        f"rows of {task.source.name if task.source else 'own data'}"
        + (f" ({training['data']})" if task in DEFAULT_TASKS else "")
        for task in config.tasks
    ]


def _new_heads(config: ModelConfig, training: dict[str, Any], new: Collection[str]) -> list[str]:
    """What a model has of another one whose heads were moved by checked rows.

    Args:
        new: names of tasks that the other one has not.
    """
    before = next(iter(training["from"].values()))
    heads = {}
    for name, rows in training["rows"].items():
        of = f"new, fitted to {rows:,}" if name in new else f"head of `{before}`, moved by {rows:,}"
        heads[name] = f"{of} checked rows" if rows else f"as in `{before}`"
    return [
        *(
            f"- **{task.name}**: {', '.join(task.labels)}; {heads[task.name]}"
            for task in config.tasks
        ),
        "",
        f"Its encoder is that of `{before}`, byte for byte.",
    ]


def _figures(facts: dict[str, Any]) -> list[str]:
    if not facts["official"]:
        return ["Not scored there by the run that made it; `mtl evaluate` does."]
    rows = [
        f"| {task} | {m['accuracy']:.4f} | {m['precision']:.4f} | {m['recall']:.4f} "
        f"| {m['f1']:.4f} | {facts['calibration'][task]['ece_before']:.4f} "
        f"| {facts['calibration'][task]['ece_after']:.4f} "
        f"| {facts['calibration'][task]['ece_by_chance']:.4f} | {m['rows']:,} ({m['split']}) |"
        for task, m in facts["official"].items()
    ]
    return [
        "| task | accuracy | precision | recall | F1 | ECE as trained | ECE calibrated "
        "| ECE by chance | rows |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Precision, recall and F1 are macro averages; ECE is the expected calibration error over "
        "15 bins, the temperature fitted on rows held out of training; by chance: what so many "
        "rows would show if every score were exactly right.",
    ]


def _making(config: ModelConfig, training: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    settings = {key: value for key, value in training.items() if key not in NOT_SETTINGS}
    return [
        f"`{training['command']}`, {facts['trained_parameters']:,} parameters trained in "
        f"{facts['seconds']:,.0f} s.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in settings.items()),
        f"| backbone sha256 | `{config.backbone_sha256}` |",
        *(f"| {key} | {value} |" for key, value in facts["software"].items()),
    ]


def _notes(training: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """What was left out or doubtful in the data, each line once."""
    scored = [note for m in facts["official"].values() for note in m.get("notes", ())]
    found = dict.fromkeys([*training.get("notes", ()), *scored])
    return [*(f"- {note}" for note in found), ""] if found else []


def _suspects(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"- {task}: the labels of {found['suspected']:,} of {found['rows']:,} rows are "
        f"contradicted by the rows around them; `{SUSPECTS}` lists {found['listed']:,} of them, "
        "and all were trained on"
        for task, found in facts.get("suspects", {}).items()
        if found["suspected"]
    ]
    return [*lines, ""] if lines else []


def _unseen(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"- {task}: accuracy {m['unseen']['accuracy']:.4f} on the {m['unseen']['rows']:,} of "
        f"{m['rows']:,} rows that share no run of eight words with the rows trained on"
        for task, m in facts["official"].items()
        if m.get("unseen", {}).get("accuracy") is not None
    ]
    return ["", *lines] if lines else []


def _similarity(facts: dict[str, Any]) -> list[str]:
    if "stsb" not in facts:
        return ["", "The embedding's use for similarity search was not measured."]
    stsb = facts["stsb"]
    return [
        "",
        f"Embedding: Spearman's correlation of the cosine on STS-B validation is "
        f"{stsb['spearman']:.4f} ({stsb['pairs']:,} pairs).",
    ]


def _typicality(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"- {task}: typicality fitted on {m['rows']:,} rows and {m['held_out']:,} held out"
        + (f"; below {UNTYPICAL_BELOW}: {_shares(m)}" if "official" in m else "")
        for task, m in facts.get("typicality", {}).items()
    ]
    return ["", *lines] if lines else []


def _shares(measured: dict[str, Any]) -> str:
    own = measured["official"]
    others = "".join(
        f", {other['below']:.1%} of {name}'s (AUROC {other['auroc']:.3f})"
        for name, other in measured["others"].items()
    )
    return f"{own['below']:.1%} of {own['rows']:,} rows of its official split{others}"


def _zero_shot(facts: dict[str, Any]) -> list[str]:
    if not facts.get("zero_shot"):
        return []
    figures = ", ".join(f"{t} {m['accuracy']:.4f}" for t, m in facts["zero_shot"].items())
    return ["", f"Zero-shot accuracy, by similarity to the labels' descriptions: {figures}."]
