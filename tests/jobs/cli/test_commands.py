"""The command line: help everywhere, and bad input as one clear line with its exit code."""

import json
import re
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from click.testing import CliRunner, Result
from support import Mtl

from jobs.cli.commands import COMMANDS
from jobs.cli.group import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, message: str, code: int = 2) -> None:
    """One line on the screen, the exit code, and no traceback."""
    assert re.search(message, result.output), result.output
    assert result.exit_code == code
    assert len(result.output.strip().splitlines()) == 1, result.output


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("text,n\ngood film,1\n")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\n\s+.*mtl {command}", result.output)
    assert command in run("--help").output


def test_an_unknown_command_gets_a_suggestion() -> None:
    result = run("lable", "x")
    assert "did you mean 'label'" in result.output
    assert result.exit_code == 2


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(run("label", tmp_path / "no.csv", "-o", tmp_path / "out"), "no such file")
    assert not (tmp_path / "out").exists()


def test_an_unknown_column_is_refused(sentences: Path, tmp_path: Path) -> None:
    result = run("label", sentences, "-o", tmp_path / "out", "--text-column", "txt")
    refused(result, "no column 'txt'; did you mean 'text'")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").touch()
    refused(run("label", tmp_path / "in.csv", "-o", tmp_path / "out"), "the file is empty")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    refused(run("label", tmp_path / "in", "-o", tmp_path / "out"), "the folder holds no")


def test_parquet_without_a_text_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "in.parquet")
    refused(run("label", tmp_path / "in.parquet", "-o", tmp_path / "out"), "no text column")


def test_an_unknown_model_is_refused(sentences: Path, tmp_path: Path) -> None:
    result = run("label", sentences, "-o", tmp_path / "out", "--model", "defalt")
    refused(result, "did you mean 'default'")


def test_an_output_folder_with_another_jobs_output_is_refused(
    sentences: Path, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.output.layout import take_folder
    from jobs.settings import settings
    from mtl_core.storage.folder import Folder

    take_folder(Folder(tmp_path / "out"), "label-another", {"model": "other"})
    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    settings.cache_clear()
    result = run("label", sentences, "-o", tmp_path / "out", "--detach")
    refused(result, r"holds the output of another job \(label-another, begun with other")


def test_an_output_folder_with_other_files_is_refused(
    sentences: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.settings import settings

    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    settings.cache_clear()
    refused(run("label", sentences, "-o", sentences.parent, "--detach"), "holds other files")
    refused(run("label", sentences, "-o", sentences, "--detach"), "is a file; give a folder")


def test_detaching_without_a_redis_is_refused(sentences: Path, tmp_path: Path) -> None:
    result = run("label", sentences, "-o", tmp_path / "out", "--detach")
    refused(result, "set MTL_REDIS_URL")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:secret@127.0.0.1:1/0", r"redis://127\.0\.0\.1:1/0 does not answer"),
        ("nonsense", "is no Redis URL"),
    ],
)
def test_an_unreachable_redis_is_named_without_its_password(
    url: str, message: str, sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.settings import settings

    monkeypatch.setenv("MTL_REDIS_URL", url)
    settings.cache_clear()
    result = run("label", sentences, "-o", tmp_path / "out", "--detach")
    refused(result, message, code=4)
    assert "secret" not in result.output
    assert not (tmp_path / "out").exists()
    refused(run("status"), message, code=4)


def test_a_full_redis_is_one_line(
    sentences: Path, tmp_path: Path, redis_url: str, mtl: Mtl
) -> None:
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory", "1mb")
    try:
        arguments = ("label", sentences, "-o", tmp_path / "out", "--detach")
        full = mtl(*arguments, MTL_REDIS_URL=redis_url)
    finally:
        client.config_set("maxmemory", "0")
        client.close()
    assert full.code == 4
    assert "is full; free memory" in full.err
    assert len(full.err.strip().splitlines()) == 1
    assert mtl(*arguments, MTL_REDIS_URL=redis_url).code == 0


def test_ended_jobs_can_be_forgotten(redis_url: str, mtl: Mtl) -> None:
    from specs import TRAIN_SPEC

    from jobs.ledger.ledger import Ledger
    from jobs.ledger.lifecycle import JobState
    from jobs.settings import Settings

    ledger = Ledger(redis_url, Settings(retention_s=1))
    for job in ("train-ended", "train-expired", "train-waiting"):
        ledger.create(job, TRAIN_SPEC)
    ledger.transition("train-expired", JobState.FAILED, "it broke")
    keeping = Ledger(redis_url, Settings())
    keeping.transition("train-ended", JobState.FAILED, "it broke")
    time.sleep(1.2)
    listed = mtl("jobs", "--json", MTL_REDIS_URL=redis_url).out
    assert {job["id"] for job in json.loads(listed)} == {"train-ended", "train-waiting"}
    pruned = mtl("jobs", "--prune", "--json", MTL_REDIS_URL=redis_url)
    assert [job["id"] for job in json.loads(pruned.out)] == ["train-waiting"]
    for made in (ledger, keeping):
        made.redis.close()


def test_a_worker_without_a_redis_says_so(mtl: Mtl) -> None:
    refused_worker = mtl("worker")
    assert refused_worker.code == 2
    assert "MTL_REDIS_URL" in refused_worker.err


@pytest.mark.slow
def test_a_starting_worker_waits_for_redis_and_then_says_what_is_wrong(mtl: Mtl) -> None:
    unreachable = mtl("worker", MTL_REDIS_URL="redis://127.0.0.1:1/0")
    assert unreachable.code == 4
    waiting, reason = unreachable.err.strip().splitlines()
    assert "waiting up to 10 s" in waiting
    assert "redis://127.0.0.1:1/0 does not answer; start it" in reason


def test_a_bad_setting_is_named(mtl: Mtl) -> None:
    result = mtl("models", MTL_LEASE_S="soon")
    assert result.code == 2
    assert "MTL_LEASE_S='soon'" in result.err
    assert "Traceback" not in result.err


def test_training_data_that_is_missing_is_named(tmp_path: Path) -> None:
    result = run("train", "--scenario", "frozen", "--name", "m", "--data", tmp_path)
    refused(result, r"no file .*ag_news/train\.parquet")


def test_a_model_cannot_have_a_path_as_its_name(made_data: Path) -> None:
    result = run("train", "--scenario", "frozen", "--name", "../m", "--data", made_data)
    refused(result, "cannot name a model")


def test_collecting_what_is_not_finished_is_refused(tmp_path: Path) -> None:
    refused(run("collect", tmp_path, "-o", tmp_path / "x.parquet"), "no finished output", code=3)
    refused(run("collect", "label-nope", "-o", tmp_path / "x.parquet"), "no job", code=3)


def test_commands_work_on_the_embedded_default_before_any_job(mtl: Mtl) -> None:
    assert "no job is running" in mtl("status").out
    assert "no jobs yet" in mtl("jobs").out
    assert mtl("jobs", "--json").out.strip() == "[]"
    assert "default" in mtl("models").out


@pytest.mark.slow
def test_embed_prints_vectors_labels_and_cosines(mtl: Mtl) -> None:
    shown = mtl("embed", "A dull film.", "A boring movie.", "Shares of the bank fell.")
    assert shown.code == 0, shown.err
    assert "1. A dull film." in shown.out
    assert "Business" in shown.out
    assert "cosines:" in shown.out
    (one,) = json.loads(mtl("embed", "A dull film.", "--json").out)
    assert one["sentiment"] == "Negative"
    assert len(one["embedding"]) == 256
    assert sum(x * x for x in one["embedding"]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_evaluate_reports_metrics_calibration_and_samples(
    mtl: Mtl, made_data: Path, tiny_backbone: Path
) -> None:
    made = mtl("train", "--scenario", "frozen", "--name", "m", "--data", made_data,
               "--backbone", tiny_backbone, "-q")  # fmt: skip
    assert made.code == 0, made.err
    shown = mtl("evaluate", "m", "--data", made_data, "--samples")
    assert shown.code == 0, shown.err
    for words in ("topic: accuracy", "ECE", "topic zero-shot, by descriptions", "WRONG"):
        assert words in shown.out
    assert "STS-B" not in shown.out  # its data is not there


@pytest.mark.slow
def test_export_writes_a_folder_and_refuses_a_full_one(mtl: Mtl, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    done = mtl("export", "default", "--format", "sentence-transformers", "-o", "st")
    assert done.code == 0, done.err
    assert (tmp_path / "st/modules.json").is_file()
    again = mtl("export", "default", "--format", "sentence-transformers", "-o", "st")
    assert again.code == 2
    assert "is not empty" in again.err


def test_doctor_examines_every_part_and_finds_nothing_wrong_here() -> None:
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    found = {line["subject"]: line for line in json.loads(result.output)}
    assert list(found) == [
        *("versions", "settings", "redis", "workers", "engine", "precision", "GPU", "threads"),
        *("model", "store", "backbone", "data", "disk"),
    ]
    assert found["redis"]["found"].startswith("embedded")
    assert found["data"] == found["data"] | {"state": "note"}
    assert "MTL_DATA_DIR" in found["data"]["found"]
    assert "sha256" in found["model"]["found"]
    assert all(line["remedy"] for line in found.values() if line["state"] != "ok")
    assert "MTL_STATE_DIR" in found["settings"]["found"]


def test_doctor_says_what_to_do_about_what_is_wrong(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.settings import settings

    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    monkeypatch.setenv("MTL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MTL_THREADS", "1000")
    settings.cache_clear()
    client = redis.Redis.from_url(redis_url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        result = run("doctor")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert result.exit_code == 2
    assert re.search(r"wrong +redis .*it may drop jobs", result.output)
    assert "→ redis-cli config set maxmemory-policy noeviction" in result.output
    assert re.search(r"note +workers +none", result.output)
    assert re.search(r"note +threads .*but \d+ cores", result.output)
    assert re.search(r"wrong +data .*lacks ag_news, sst2", result.output)
    monkeypatch.setenv("MTL_REDIS_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    result = run("doctor")
    assert result.exit_code == 2
    assert re.search(r"wrong +redis +Redis at redis://127.0.0.1:1/0 does not answer", result.output)


def test_doctor_sees_versions_that_do_not_fit_and_misspelt_variables(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    from jobs.ledger.presence import Presence
    from jobs.settings import settings

    monkeypatch.setenv("MTL_REDIS_URL", redis_url)
    settings.cache_clear()
    monkeypatch.setenv("MTL_REDIS_ULR", redis_url)
    client = redis.Redis.from_url(redis_url)
    with monkeypatch.context() as older:
        older.setattr("jobs.ledger.presence.__version__", "0.0.9")
        Presence(client).announce("host:1", 20)
    real = importlib.metadata.version
    monkeypatch.setattr("jobs.doctor.version", lambda n: "5.7.0" if n == "kombu" else real(n))
    result = run("doctor")
    client.close()
    assert result.exit_code == 2
    said = " ".join(result.output.split())  # long lines wrap
    assert "and MTL_REDIS_ULR → did you mean MTL_REDIS_URL?" in said
    assert re.search(r"wrong versions .*kombu 5\.7\.0 \(needs <5\.7,>=5\.6\.2\)", said)
    assert re.search(r"note workers 1: host:1; of another version .*: host:1 0\.0\.9", said)


def test_a_folder_that_another_submit_is_just_taking_is_waited_for(tmp_path: Path) -> None:
    from jobs.output.layout import OWNER, take_folder
    from mtl_core.errors import OutputError
    from mtl_core.storage.folder import Folder

    output = Folder(tmp_path / "out")
    (tmp_path / "out/_work").mkdir(parents=True)
    soon = threading.Timer(0.3, output.write_json, (OWNER, {"job": "label-a", "spec": {}}))
    soon.start()
    take_folder(output, "label-a", {})  # the same job's: joined, not refused
    soon.join()
    with pytest.raises(OutputError, match="holds the output of another job"):
        take_folder(output, "label-b", {})
