"""The commands by section: where each is defined, and its line in ``mtl --help``.

Nothing is imported for the help, so that it comes at once.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command."""

    section: str
    module: str
    """The module below ``jobs.cli`` that defines the command, as a function of the same name."""
    line: str


COMMANDS = {
    "label": Command(
        "Label", "label.label", "Label files of sentences: topic, sentiment, embedding."
    ),
    "relabel": Command("Label", "label.relabel", "Label an output anew with another model."),
    "collect": Command(
        "Label", "label.collect", "Write a finished job's rows into one file: Parquet, csv, jsonl."
    ),
    "verify": Command("Label", "label.verify", "Check that an output holds every row once."),
    "embed": Command("Label", "label.embed", "Print the embedding and labels of a few texts."),
    "train": Command("Train", "train.train", "Train a model in one of the freezing scenarios."),
    "models": Command("Train", "train.models", "List the models that can be used by name."),
    "evaluate": Command("Train", "train.evaluate", "Score a model on the official splits."),
    "compare": Command(
        "Train", "train.compare", "Compare trained models, as a table and an HTML page."
    ),
    "export": Command(
        "Train", "train.export", "Write a model for sentence-transformers, ONNX or OpenVINO."
    ),
    "show": Command("Look", "look.show", "Show the first rows of a finished output."),
    "report": Command("Look", "look.report", "Write one HTML page about a finished output."),
    "review": Command("Look", "look.review", "Write a sheet of rows to check by hand."),
    "audit": Command("Look", "look.audit", "Say how right the labels are, from checked rows."),
    "diff": Command("Look", "look.diff", "Show how the labels of two outputs differ."),
    "search": Command("Look", "look.search", "Find the rows nearest to a text in meaning."),
    "index": Command("Look", "look.index", "Make searching a large output quick."),
    "duplicates": Command(
        "Look", "look.duplicates", "Find equal and near-equal texts, and labels that contradict."
    ),
    "drift": Command(
        "Look", "look.drift", "Say whether the input has changed between two outputs."
    ),
    "status": Command("Look", "look.status", "Show one job, or all that have not ended."),
    "jobs": Command("Look", "look.status", "List all jobs."),
    "cancel": Command("Operate", "operate.control", "Stop a job; what is done stays."),
    "retry": Command(
        "Operate", "operate.control", "Let a failed, paused, cancelled or partial job go on."
    ),
    "worker": Command("Operate", "operate.worker", "Run a worker."),
    "config": Command(
        "Operate", "operate.config", "Show every setting, its value and where that comes from."
    ),
    "doctor": Command(
        "Operate", "operate.doctor", "Say what this machine has, and what to do where it lacks."
    ),
}
SECTIONS = tuple(dict.fromkeys(command.section for command in COMMANDS.values()))
