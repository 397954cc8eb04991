"""Whole label jobs: real redis-server, real worker processes, the real model, real kills."""

import json
import signal
from pathlib import Path

import duckdb
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from fault_job import stop_in_mid_shard
from support import Mtl, Workers, pace, running_mtl, wait_until

from jobs.ledger.ledger import Ledger
from jobs.settings import Settings

pytestmark = pytest.mark.slow

SENTENCES = (
    "The central bank raised interest rates to slow inflation",
    "The striker scored twice as the home side won the cup",
    "A superb, charming and moving film",
    "Dull, clumsy and far too long",
)
COUNTS = ("total", "labelled", "errors", "truncated", "duplicates", "cached")


def sentences(folder: Path, rows: int) -> Path:
    path = folder / "in.csv"
    lines = [f'"{SENTENCES[row % 4]}, number {row}",{row}' for row in range(rows)]
    path.write_text("\n".join(["text,n", *lines]) + "\n")
    return path


def check_complete(output: Path, rows: int) -> pd.DataFrame:
    """Every row exactly once, and every part what the manifest says."""
    manifest = json.loads((output / "_manifest.json").read_text())
    frame = pd.read_parquet(output)
    assert (output / "_SUCCESS").exists()
    assert frame["row_id"].sort_values().tolist() == list(range(rows))
    assert (frame["n"].astype(int) == frame["row_id"]).all()
    assert [manifest["rows"][key] for key in COUNTS] == [rows, rows, 0, 0, 0, 0]
    on_disk = {path.name: pq.read_metadata(path).num_rows for path in output.glob("*.parquet")}
    assert on_disk == {part["part"]: part["rows"] for part in manifest["parts"]}
    # The staged rows are removed last, behind the mark that the output is whole.
    wait_until(lambda: not (output / "_work").exists(), 10, "the staged rows are removed")
    return frame


def processes_of(state: Path) -> list[str]:
    """Command lines of what still runs for this state folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = process.info["cmdline"] or []
        environment = process.info["environ"] or {}
        ours = environment.get("MTL_STATE_DIR") == str(state) and "worker" in words
        if ours or (words and "redis-server" in words[0] and str(state) in " ".join(words)):
            found.append(" ".join(words))
    return found


def submitted(mtl: Mtl, source: Path, output: Path, url: str, *options: str) -> str:
    done = mtl("label", source, "-o", output, "--detach", "--json", *options, MTL_REDIS_URL=url)
    assert done.code == 0, done.err
    return str(json.loads(done.out)["id"])


def rows_done(mtl: Mtl, job: str, url: str) -> int:
    status = json.loads(mtl("status", job, "--json", MTL_REDIS_URL=url).out)
    return int(status["shards"]["done"])


def state_of(mtl: Mtl, job: str, url: str) -> str:
    return str(json.loads(mtl("status", job, "--json", MTL_REDIS_URL=url).out)["state"])


# --- the embedded default


def test_the_embedded_default_labels_a_file_and_leaves_nothing_running(
    mtl: Mtl, tmp_path: Path, own_state: Path
) -> None:
    source = sentences(tmp_path, 40)
    done = mtl("label", source, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert "40 of 40 rows labelled, 0 in errors" in done.out
    frame = check_complete(tmp_path / "out", 40)
    assert frame["topic"].iloc[:2].tolist() == ["Business", "Sports"]
    assert frame["sentiment"].iloc[2:4].tolist() == ["Positive", "Negative"]
    assert frame["topic_score"].between(0, 1).all()
    assert len(frame["embedding"].iloc[0]) == 256
    assert processes_of(own_state) == []

    query = f"SELECT sentiment, count(*) AS n FROM '{tmp_path}/out/*.parquet' GROUP BY 1"
    assert duckdb.sql(query).fetchall()

    again = mtl("label", source, "-o", tmp_path / "out", "--json")
    assert again.code == 0
    summary = json.loads(again.out)
    assert summary["rows"]["labelled"] == 40

    collected = mtl("collect", summary["id"], "-o", tmp_path / "all.parquet")
    assert collected.code == 0, collected.err
    assert pq.read_table(tmp_path / "all.parquet")["row_id"].to_pylist() == list(range(40))
    assert mtl("collect", tmp_path / "out", "-o", tmp_path / "all.parquet").code == 2
    assert summary["id"] in mtl("jobs").out


def test_bad_rows_are_counted_and_good_rows_all_labelled(mtl: Mtl, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    long = "word " * 20_000  # 100,000 characters
    # The é of the last row says that the file is UTF-8, so that the row above it is damaged.
    source.write_bytes(
        f"text,n\ngood,1\n,2\nfew\n{long},4\n".encode() + b"caf\xe9,5\n" + "finé,6\n".encode()
    )
    done = mtl("label", source, "-o", tmp_path / "out", "--embedding", "none", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert [rows[key] for key in COUNTS] == [6, 3, 3, 1, 0, 0]
    errors = pq.read_table(tmp_path / "out/errors/_rows-input.parquet").to_pylist()
    assert [(e["row"], e["reason"]) for e in errors] == [
        (2, "the text is blank"),
        (3, "1 fields, the header has 2"),
        (5, "not UTF-8"),
    ]
    frame = pd.read_parquet(next((tmp_path / "out").glob("part-00000-a1-*.parquet")))
    assert frame["row_id"].tolist() == [0, 3, 5]
    assert "embedding" not in frame


def test_texts_labelled_before_come_from_the_cache_with_the_same_answer(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    workers.start()
    source = tmp_path / "in.csv"
    source.write_text("text\n" + "\n".join([*(f'"{text}"' for text in SENTENCES), "new"] * 3))
    answers = []
    for run, wanted in (("first", [15, 15, 0, 0, 10, 0]), ("second", [15, 15, 0, 0, 10, 5])):
        arguments = ("label", source, "-o", tmp_path / run, "--cache", "--json")
        done = mtl(*arguments, MTL_REDIS_URL=workers.url)
        assert done.code == 0, done.err
        assert [json.loads(done.out)["rows"][key] for key in COUNTS] == wanted
        answers.append(pd.read_parquet(tmp_path / run).drop(columns="embedding"))
    pd.testing.assert_frame_equal(*answers)


def test_a_file_of_bad_rows_alone_ends_with_an_empty_output(mtl: Mtl, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n\n \n")
    done = mtl("label", tmp_path / "in.txt", "-o", tmp_path / "out", "--json")
    assert json.loads(done.out)["rows"]["errors"] == 3
    assert len(pd.read_parquet(tmp_path / "out/part-empty.parquet")) == 0


def test_a_file_without_rows_leaves_no_folder_behind(mtl: Mtl, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\n")
    done = mtl("label", tmp_path / "in.csv", "-o", tmp_path / "out")
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)
    assert "no rows" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_stops_all_it_started_and_goes_on_when_repeated(
    stop: signal.Signals, mtl: Mtl, tmp_path: Path, own_state: Path
) -> None:
    source, output = sentences(tmp_path, 6000), tmp_path / "out"
    arguments = ("label", source, "-o", output, "--shard-rows", "200")
    with running_mtl(*arguments) as process:
        wait_until(lambda: len(list(output.glob("part-*.parquet"))) >= 2, 60, "two parts")
        process.send_signal(stop)
        assert process.wait(30) == 128 + stop
    assert processes_of(own_state) == []
    before = {path.name for path in output.glob("part-*.parquet")}
    assert not (output / "_SUCCESS").exists()
    done = mtl(*arguments)
    assert done.code == 0, done.err
    check_complete(output, 6000)
    assert before <= {path.name for path in output.glob("part-*.parquet")}


def test_a_killed_command_leaves_no_worker_behind(
    mtl: Mtl, tmp_path: Path, own_state: Path
) -> None:
    source, output = sentences(tmp_path, 6000), tmp_path / "out"
    with running_mtl("label", source, "-o", output, "--shard-rows", "200") as process:
        wait_until(lambda: len(list(output.glob("part-*.parquet"))) >= 1, 60, "one part")
        process.kill()
        process.wait()
    wait_until(lambda: processes_of(own_state) == [], 30, "worker and redis-server gone")


# --- several workers on one Redis


def test_two_workers_share_a_job_and_label_every_row_once(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    source, output = sentences(tmp_path, 4000), tmp_path / "out"
    workers.start()
    workers.start()
    wait_until(lambda: workers.logs().count("ready") >= 2, 60, "two workers ready")
    job = submitted(mtl, source, output, workers.url, "--shard-rows", "100")
    wait_until(lambda: (output / "_SUCCESS").exists(), 120, "the job is done")
    # The staged rows are removed after that.
    wait_until(lambda: state_of(mtl, job, workers.url) == "done", 10, "the ledger says so too")
    check_complete(output, 4000)
    manifest = json.loads((output / "_manifest.json").read_text())
    assert len({part["worker"] for part in manifest["parts"]}) == 2


def test_a_killed_worker_loses_nothing(mtl: Mtl, workers: Workers, tmp_path: Path) -> None:
    source, output = sentences(tmp_path, 4000), tmp_path / "out"
    job = submitted(mtl, source, output, workers.url, "--shard-rows", "100")
    first = workers.start()
    wait_until(lambda: len(list(output.glob("part-*.parquet"))) >= 3, 60, "three parts")
    (child,) = psutil.Process(first.pid).children()
    # Between two shards it would hold none, and none would be lost.
    held = stop_in_mid_shard(Ledger(workers.url, Settings()), job, child.pid, first.pid)
    workers.kill(first)
    assert state_of(mtl, job, workers.url) == "running"
    workers.start()
    wait_until(lambda: (output / "_SUCCESS").exists(), 60, "the other worker ends the job")
    check_complete(output, 4000)
    attempts = json.loads((output / "_manifest.json").read_text())["attempts"]
    assert attempts["lost"] == held


def test_a_killed_child_costs_one_attempt(mtl: Mtl, workers: Workers, tmp_path: Path) -> None:
    source, output = sentences(tmp_path, 4000), tmp_path / "out"
    submitted(mtl, source, output, workers.url, "--shard-rows", "100")
    worker = workers.start()
    wait_until(lambda: len(list(output.glob("part-*.parquet"))) >= 3, 60, "three parts")
    (child,) = psutil.Process(worker.pid).children()
    child.kill()
    wait_until(lambda: (output / "_SUCCESS").exists(), 60, "the job is done")
    check_complete(output, 4000)


def test_a_worker_told_to_leave_gives_its_shard_back_at_once(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    source, output = sentences(tmp_path, 3000), tmp_path / "out"
    # One shard that takes long, and a lease that would keep it for longer.
    submitted(mtl, source, output, workers.url, "--shard-rows", "3000")
    worker = workers.start(MTL_LEASE_S="600")
    wait_until(lambda: "attempt 1" in workers.logs(), 60, "the shard is claimed")
    worker.send_signal(signal.SIGTERM)
    assert wait_until(lambda: worker.poll() is not None, 30, "the worker leaves") < 15 * pace()
    workers.start(MTL_LEASE_S="600")
    wait_until(lambda: (output / "_SUCCESS").exists(), 90, "the job is done")
    check_complete(output, 3000)
    attempts = json.loads((output / "_manifest.json").read_text())["attempts"]
    assert (attempts["released"], attempts["lost"]) == (1, 0)


def test_a_lost_message_is_sent_again(mtl: Mtl, workers: Workers, tmp_path: Path) -> None:
    import redis

    source, output = sentences(tmp_path, 400), tmp_path / "out"
    submitted(mtl, source, output, workers.url, "--shard-rows", "100")
    redis.Redis.from_url(workers.url).delete("label")
    workers.start()
    wait_until(lambda: (output / "_SUCCESS").exists(), 60, "the job is done")
    check_complete(output, 400)


def test_a_pickled_message_is_refused_and_the_worker_lives_on(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    from celery import Celery

    from jobs.ledger.messages import RUN_SHARD, broker_url

    app = Celery(broker=broker_url(workers.url), set_as_current=False)
    app.send_task(RUN_SHARD, args=("a", "b"), queue="label", serializer="pickle")
    source, output = sentences(tmp_path, 8), tmp_path / "out"
    submitted(mtl, source, output, workers.url)
    workers.start()
    wait_until(lambda: (output / "_SUCCESS").exists(), 60, "the job behind it is done")
    assert "Refusing to deserialize" in workers.logs() or "pickle" in workers.logs()


def test_status_and_result_of_a_watched_job_on_a_shared_redis(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    workers.start()
    source = sentences(tmp_path, 20)
    done = mtl("label", source, "-o", tmp_path / "out", "--json", MTL_REDIS_URL=workers.url)
    assert done.code == 0, done.err
    job = json.loads(done.out)["id"]
    status = json.loads(mtl("status", job, "--json", MTL_REDIS_URL=workers.url).out)
    assert status["kind"] == "label"
    assert status["state"] == "done"
    assert status["rows"] == {"total": 20, "done": 20, "failed": 0}
    assert status["shards"] == {"total": 1, "done": 1, "failed": 0}


# --- training as a job


def test_a_trained_model_is_registered_and_labels(
    mtl: Mtl, tmp_path: Path, made_data: Path, tiny_backbone: Path
) -> None:
    arguments = ("train", "--scenario", "freeze-backbone", "--name", "tiny", "--data", made_data)
    done = mtl(*arguments, "--backbone", tiny_backbone, "--json")
    assert done.code == 0, done.err
    assert set(json.loads(done.out)["metrics"]) == {"topic", "sentiment"}
    assert "tiny" in mtl("models").out

    scored = mtl("evaluate", "tiny", "--data", made_data, "--json")
    figures = json.loads(scored.out)["official"]
    assert {"accuracy", "precision", "recall", "f1", "rows", "per_class"} <= set(figures["topic"])
    assert figures["topic"]["rows"] == 60

    labelled = mtl("label", sentences(tmp_path, 10), "-o", tmp_path / "out", "--model", "tiny")
    assert labelled.code == 0, labelled.err
    again = mtl("train", "-q", "--scenario", "full", "--name", "tiny", "--data", made_data)
    assert (again.code, len(again.err.strip().splitlines())) == (3, 1)
    assert "model 'tiny' was trained with other settings" in again.err


def test_a_training_killed_midway_ends_as_if_it_had_not_been(
    mtl: Mtl,
    workers: Workers,
    made_data: Path,
    tiny_backbone: Path,
    own_state: Path,
    tmp_path: Path,
) -> None:
    arguments = ("train", "--scenario", "full", "--name", "tiny", "--data", made_data)
    arguments += ("--backbone", tiny_backbone, "--epochs", "40")
    undisturbed = mtl(*arguments, MTL_STATE_DIR=str(tmp_path / "other"), MTL_THREADS="1")
    assert undisturbed.code == 0, undisturbed.err

    done = mtl(*arguments, "--detach", "--json", MTL_REDIS_URL=workers.url)
    job = json.loads(done.out)["id"]
    checkpoints = own_state / "checkpoints" / job
    for seen in (2, 12):
        worker = workers.start(MTL_THREADS="1")
        wait_until(lambda n=seen: newest_step(checkpoints) >= n * 5, 60, "more checkpoints")
        workers.kill(worker)
    workers.start(MTL_THREADS="1")
    finished = own_state / "models" / "tiny" / "metrics.json"
    wait_until(finished.is_file, 90, "the model is there")
    wait_until(lambda: state_of(mtl, job, workers.url) == "done", 10, "the job is done")
    for name in ("history.json", "metrics.json", "model.safetensors"):
        ours = (own_state / "models/tiny" / name).read_bytes()
        theirs = (tmp_path / "other/models/tiny" / name).read_bytes()
        if name == "metrics.json":
            assert json.loads(ours)["official"] == json.loads(theirs)["official"]
        else:
            assert ours == theirs, name


def newest_step(checkpoints: Path) -> int:
    return max((int(path.stem[5:]) for path in checkpoints.glob("step-*.json")), default=0)


def test_labels_that_are_not_sure_enough_are_left_empty(
    mtl: Mtl, made_data: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    made = mtl(
        "train", "--scenario", "full", "--name", "m", "--data", made_data, "--epochs", "3",
        "--backbone", tiny_backbone, "-q",
    )  # fmt: skip
    assert made.code == 0, made.err
    source = sentences(tmp_path, 60)
    done = mtl("label", source, "-o", "out", "--model", "m", "--abstain-below", "0.95")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    frame = pd.read_parquet(tmp_path / "out")
    for task in ("topic", "sentiment"):
        unsure = frame[f"{task}_score"] < manifest["thresholds"][task]
        assert (frame[task].isna() == unsure).all()


def test_a_model_that_is_never_sure_enough_says_so(
    mtl: Mtl, tmp_path: Path, made_data: Path, tiny_backbone: Path
) -> None:
    mtl("train", "--scenario", "frozen", "--name", "m", "--data", made_data,
        "--backbone", tiny_backbone, "-q")  # fmt: skip
    refused = mtl("label", sentences(tmp_path, 4), "-o", "out", "--model", "m",
                  "--abstain-below", "0.99")  # fmt: skip
    assert refused.code == 2
    assert "has no threshold for" in refused.err
    assert refused.err.count("\n") == 1
