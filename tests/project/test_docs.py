"""What the docs say is what happens: every command in them is run, or at least known."""

import doctest
import gzip
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from support import REPOSITORY, Workers, free_port, made_texts, pace

from jobs.cli.commands import COMMANDS
from jobs.cli.group import main
from jobs.embedded import redis_server_binary

DOCS = REPOSITORY / "docs"
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in DOCS.glob("*.md"))]
EMBEDDED = "docs/quickstart.md"
"""The page that is tried as it is on a fresh machine: without a Redis."""
QUICK = {"MTL_ENGINE": "torch"}
"""Models used once are not worth compiling."""
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of shell commands."""

    page: str
    line: int
    text: str
    not_run: str
    """Why it is not run here; empty where it is."""


def blocks(page: str) -> Iterator[Block]:
    lines = (REPOSITORY / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line == "```sh":
            end = lines.index("```", number)
            marked = NOT_RUN.fullmatch(lines[number - 1])
            reason = marked.group(1) if marked else ""
            yield Block(page, number + 1, "\n".join(lines[number + 1 : end]), reason)


BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = sorted({block.page for block in BLOCKS if not block.not_run})


# --- known: every command and option is one of ours


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a piece of shell, without variables set before them."""
    text = re.sub(r"<<(\w+)\n.*?\n\1\n?", "\n", f"{text}\n", flags=re.DOTALL).replace("\\\n", " ")
    for line in re.sub(r'"[^"]*"', lambda m: m.group().replace("\n", " "), text).splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=";|&()<>")
        words.whitespace_split = True
        simple: list[str] = []
        for word in [*words, ";"]:
            if not set(word) <= set(";|&()<>"):
                if simple or not re.match(r"\w+=", word):
                    simple.append(word)
            elif simple:
                yield simple
                simple = []


def check(words: list[str], *, whole: bool = True) -> None:
    """Raise click's UsageError unless ``mtl`` takes these words.

    Args:
        whole: also ask for what is required.
    """
    try:
        with main.make_context("mtl", list(words[1:])) as outer:
            name, command, rest = main.resolve_command(outer, list(words[1:]))
            assert command is not None
            command.make_context(name, rest, parent=outer).close()
    except click.exceptions.Exit:
        pass  # --help
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError):
        if whole:
            raise


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_every_command_in_a_block_is_known(block: Block) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for words in commands(block.text):
        if words[0].endswith("mtl"):
            check(words)
        if words[0] == "make":
            assert set(words[1:]) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_command_named_in_a_text_is_known(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`((?:MTL_\w+=\S+ )*mtl [^`]+)`", prose):
        if not re.search(r"[…|]", code):
            for words in commands(code.replace("\n", " ")):
                check(words, whole=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_in_a_help_text_is_known(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help is not None
    found = [line.strip() for line in command.help.splitlines() if re.search(r"^ +.*\bmtl ", line)]
    examples = [words for line in found for words in commands(line) if words[0] == "mtl"]
    assert examples or name == "train"
    for words in examples:
        check(words)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((REPOSITORY / page).parent / target).exists(), target


# --- run: each page from its first block to its last, as its reader would


@pytest.fixture(scope="module")
def shared(redis_session: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """A Redis with one worker, for all pages but one."""
    workers = Workers(redis_session, tmp_path_factory.mktemp("docs-worker"), QUICK)
    workers.start(MTL_STATE_DIR=str(workers.folder / "state"))
    yield workers
    for process in workers.running:
        workers.kill(process)


@pytest.fixture
def stage(tmp_path: Path, made_data: Path) -> Path:
    """A folder with what the pages speak of."""
    from datasets import Dataset, DatasetDict

    reviews = made_texts("sentiment", 40, seed=1)[0]
    csv = "id,text\n" + "".join(f"r{n},{text}\n" for n, text in enumerate(reviews))
    (tmp_path / "reviews.csv").write_text(csv)
    (tmp_path / "reviews.txt.gz").write_bytes(gzip.compress("\n".join(reviews).encode()))
    for name in ("day1.csv", "day2.csv", "mails.csv"):
        (tmp_path / name).write_text(csv)
    big = [f"b{n},the match number {n} was won by the home team" for n in range(2000)]
    (tmp_path / "big.csv").write_text("\n".join(["id,text", *big]))
    (tmp_path / "messy.csv").write_text("id,text\n1,good\n2,\n3,too,many\n")
    (tmp_path / "mails.jsonl").write_text(
        '{"id": 1, "subject": "Hi", "mail": {"body": "superb"}}\n{"id": 2, "subject": "Re: Hi"}\n'
    )
    for name, high, low in (
        ("urgency.csv", "help now", "no hurry at all"),
        ("urgency-test.csv", "please help", "whenever you like"),
    ):
        (tmp_path / name).write_text("text,level\n" + f"{high},high\n{low},low\n" * 20)
    saved = Dataset.from_dict({"text": reviews[:4]})
    DatasetDict({"train": saved, "test": saved}).save_to_disk(tmp_path / "saved-dataset")
    shutil.copytree(made_data, tmp_path / "data")
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    for block in re.findall(r"```toml\n(# (\S+)\n.*?)```", all_docs(), re.DOTALL):
        (tmp_path / block[1]).write_text(block[0])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(redis_server_binary())
    return tmp_path


def all_docs() -> str:
    return "\n".join((REPOSITORY / page).read_text(encoding="utf-8") for page in PAGES)


BEFORE = {
    "docs/howto-collect.md": """
        for name in reviews messy; do mtl label $name.csv -o out-$name/; done
        mv out-reviews out
        cp -r out last-week
    """,
    "docs/howto-search.md": """
        mtl label reviews.csv -o out/
    """,
    "docs/howto-check.md": """
        mtl label reviews.csv -o out/
        printf 'row_id,topic,sentiment\n0,World,Positive\n7,,Negative\n20,Sports,?\n' > reviewed.csv
        { echo row_id,urgency; for n in $(seq 0 29); do echo $n,$((n % 2)); done; } > tickets.csv
    """,
    "docs/howto-drift.md": """
        mtl label examples/sentences.csv -o out/
        cp -r out out2
    """,
}
"""What the reader of a page has done before."""


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_every_command_of_a_page_runs(
    page: str, stage: Path, shared: Workers, tiny_backbone: Path
) -> None:
    port = str(free_port())
    script = "".join(f"{block.text}\n" for block in blocks(page) if not block.not_run)
    environment = {
        **os.environ,
        "PATH": f"{stage / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(stage),
        "MTL_TRAIN_BACKBONE": str(tiny_backbone),  # training the real one takes minutes
        **QUICK,
        "MTL_STATE_DIR": str(shared.folder / "state"),
        **({} if page == EMBEDDED else {"MTL_REDIS_URL": shared.url}),
    }
    with (stage / "output").open("w") as output:
        process = subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", BEFORE.get(page, "") + script.replace("6379", port)],
        cwd=stage, env=environment, stdin=subprocess.DEVNULL,
        stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip
    try:
        code = process.wait(timeout=240 * pace())
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its Redis and workers, too
        process.wait()
    shown = (stage / "output").read_text()
    assert code == 0, shown[-3000:]
    assert "Traceback" not in shown


@pytest.mark.slow
def test_the_walkthrough_prints_what_it_says() -> None:
    failed, tried = doctest.testfile(
        str(DOCS / "walkthrough.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried > 20
    assert not failed


def test_every_metric_in_the_docs_is_served() -> None:
    import worker.process.metrics as served

    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(mtl_\w+)`", page.partition("## Metrics")[2].partition("## Logs")[0]))
    source = Path(served.__file__).read_text(encoding="utf-8")
    counters = {f"{name}_total" for name in re.findall(r'Counter\("(\w+)"', source)}
    assert named == counters | set(re.findall(r'GaugeMetricFamily\("(\w+)"', source))
