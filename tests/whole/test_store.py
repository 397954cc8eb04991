"""Jobs whose files lie in an object store: a real S3 server, real workers, faults by signals."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from fault_job import write_sentences
from s3_server import SECRET, S3Server
from support import Mtl, Ran, Workers, wait_until

from jobs.roots import check_inside, place_inside
from jobs.settings import Settings
from mtl_core.errors import SettingsError, StoreError, StoreUnreachableError
from mtl_core.model.copies import publish
from mtl_core.model.network import load_model
from mtl_core.model.registry import SHIPPED_MODELS, find_model, list_models
from mtl_core.storage.address import place_of
from mtl_core.storage.bucket import store_of
from mtl_core.storage.place import Place

Run = Callable[..., Ran]


@pytest.fixture
def place(s3: S3Server) -> Place:
    return place_of(f"{s3.address}/folder", patience_s=1)


# --- a place


def test_a_file_in_a_store_is_written_and_read_as_one_in_a_folder(
    place: Place, tmp_path: Path
) -> None:
    for where in (place, place_of(tmp_path / "folder")):
        assert where.is_empty()
        where.write_text("b.txt", "ä")
        where.write_text("errors/a.txt", "1")
        where.write_text("errors/b.csv", "2")
        assert where.read_text("b.txt") == "ä"
        assert where.names() == ["b.txt"]
        assert where.matching("*.txt", "errors") == ["errors/a.txt"]
        assert where.folders() == ["errors"]
        assert where.names("nothing") == []
        assert (where.has("b.txt"), where.has("errors"), where.has("c.txt")) == (True, False, False)
        assert not where.is_file()
        for name in ("b.txt", "errors/a.txt"):
            where.copy(name, "copies/c.txt")
            assert where.read_text("copies/c.txt") == where.read_text(name)
        with pytest.raises(FileNotFoundError):
            where.copy("never there", "copies/c.txt")
        assert where.read_text("copies/c.txt") == "1"
        where.delete_folder("copies")
        where.delete("b.txt", "never there")
        where.delete_folder("errors")
        where.delete_folder("errors")
        assert where.is_empty()
        with pytest.raises(FileNotFoundError), where.reading("b.txt"):
            pass


def test_a_write_that_fails_leaves_what_was_there(place: Place, tmp_path: Path) -> None:
    for where in (place, place_of(tmp_path / "folder")):
        where.write_text("a.txt", "old")
        with suppress(ZeroDivisionError), where.writing("a.txt") as path:
            path.write_text("half")
            raise ZeroDivisionError
        assert where.read_text("a.txt") == "old"
        assert where.names() == ["a.txt"]


def test_an_object_larger_than_one_request_arrives_whole(place: Place) -> None:
    content = bytes(range(256)) * 80_000  # 20 MB: several pieces
    with place.writing("large") as path:
        path.write_bytes(content)
    with place.reading("large") as path:
        assert path.read_bytes() == content


def test_an_outage_shorter_than_the_patience_is_waited_out(s3: S3Server) -> None:
    place = place_of(f"{s3.address}/folder", patience_s=20)
    place.write_text("a.txt", "1")
    s3.kill()
    again = threading.Timer(1.0, s3.start)
    again.start()
    assert place.read_text("a.txt") == "1"
    again.join()


def test_a_store_that_is_gone_is_named_with_its_reason(s3: S3Server, place: Place) -> None:
    s3.kill()
    started = time.monotonic()
    with pytest.raises(
        StoreUnreachableError, match="s3://bucket/folder/a: the store does not answer"
    ):
        place.has("a")
    assert time.monotonic() - started < 5
    s3.start()


def test_a_bucket_that_is_missing_and_a_wrong_secret_are_final(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="NoSuchBucket"):
        place_of("s3://nowhere/folder").write_text("a", "1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + SECRET)
    store_of.cache_clear()
    with pytest.raises(StoreError, match="the store refuses") as refused:
        place_of(f"{s3.address}/folder", patience_s=5).write_text("a", "1")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "s3://",
        "s3://bucket/a/../b",
        "s3://bucket//a",
        "s3://key:secret@bucket/a",
        "s3://bucket/a?region=x",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        place_of(address)
    assert "secret" not in str(refused.value)


def test_addresses_outside_the_roots_are_refused(tmp_path: Path) -> None:
    rooted = Settings(roots=f"s3://bucket/mine:{tmp_path}:gs://other")
    assert str(place_inside("s3://bucket/mine/out/", rooted)) == "s3://bucket/mine/out"
    assert check_inside(tmp_path / "a", rooted) == tmp_path / "a"
    for outside in (
        "s3://bucket/mine-not/out",
        "s3://bucket",
        "s3://bucket/other",
        "gs://others/a",
    ):
        with pytest.raises(SettingsError, match="outside the folders that jobs may use"):
            place_inside(outside, rooted)


# --- models


def test_a_model_in_a_store_is_copied_once_and_copied_anew_when_it_changed(
    s3: S3Server, tmp_path: Path
) -> None:
    models = place_of(f"{s3.address}/models")
    publish(SHIPPED_MODELS / "default", models.below("mine"))
    assert [entry.name for entry in list_models(models)] == ["mine", "default", "fast"]
    by_name = find_model("mine", models, tmp_path / "copies")
    by_address = find_model(f"{s3.address}/models/mine", tmp_path, tmp_path / "copies")
    assert by_name.sha256() == by_address.sha256() == find_model("default", tmp_path).sha256()
    assert by_name.folder == by_address.folder
    config = json.loads(s3.path("models/mine/config.json").read_text())
    models.write_json("mine/config.json", config | {"calibration": {}})
    changed = find_model("mine", models, tmp_path / "copies")
    assert json.loads((changed.folder / "config.json").read_text())["calibration"] == {}
    assert len(list((tmp_path / "copies").iterdir())) == 2


def test_a_model_in_a_store_is_copied_anew_when_its_statistics_of_typicality_changed(
    s3: S3Server, tmp_path: Path
) -> None:
    models = place_of(f"{s3.address}/models")
    folder = tmp_path / "mine"
    shutil.copytree(SHIPPED_MODELS / "default", folder)
    for content in (b"one", b"other"):
        (folder / "typicality.safetensors").write_bytes(content)
        publish(folder, models.below("mine"))
        copied = find_model("mine", models, tmp_path / "copies").folder
        assert (copied / "typicality.safetensors").read_bytes() == content


# --- jobs


@pytest.fixture
def submitted(s3: S3Server, mtl: Mtl, workers: Workers, tmp_path: Path) -> Callable[..., str]:
    """Submit a job whose input, model and output are in the store."""

    def submit(rows: int, shard_rows: int) -> str:
        source = write_sentences(tmp_path / "in.csv", rows)
        place_of(s3.address).write_text("in/sentences.csv", source.read_text() + "  ,0\n")
        publish(SHIPPED_MODELS / "default", place_of(f"{s3.address}/models/mine"))
        options = ("--shard-rows", str(shard_rows), "--model", f"{s3.address}/models/mine")
        arguments = ("label", f"{s3.address}/in/*.csv", "-o", f"{s3.address}/out", *options)
        done = mtl(*arguments, "--detach", "--json", MTL_REDIS_URL=workers.url)
        assert done.code == 0, done.err
        return str(json.loads(done.out)["id"])

    return submit


def parts(s3: S3Server) -> int:
    return len(list(s3.path("out").glob("part-*.parquet")))


def check(s3: S3Server, mtl: Mtl, rows: int, job: str, url: str) -> None:
    """Every row is there once, the bad one in errors, and nothing else is left."""
    assert (
        f"{rows + 1:,} input rows = {rows:,} labelled + 1 error"
        in mtl("verify", f"{s3.address}/out").out
    )
    by_id = mtl("verify", job, MTL_REDIS_URL=url)
    assert by_id.code == 0, by_id.err
    frame = pd.read_parquet(s3.path("out"))
    assert sorted(frame["row_id"]) == list(range(rows))
    assert sorted(frame["n"].astype(int)) == list(range(rows))
    there = {path.name for path in s3.path("out").iterdir()}
    assert {"_SUCCESS", "_manifest.json", "_README.md", "errors"} <= there
    assert not {name for name in there - {"errors"} if not name.startswith(("part-", "_"))}
    assert not list(s3.path("out/_work").rglob("*.parquet"))


@pytest.mark.slow
def test_a_job_in_a_store_on_two_workers_is_read_back_by_every_command(
    s3: S3Server, mtl: Mtl, workers: Workers, submitted: Callable[..., str], tmp_path: Path
) -> None:
    for _ in range(2):
        workers.start(MTL_STATE_DIR=str(tmp_path / f"host-{len(workers.running)}"))
    job = submitted(rows=600, shard_rows=25)
    wait_until(s3.path("out/_SUCCESS").exists, 60, "the job's end")
    check(s3, mtl, 600, job, workers.url)
    assert mtl("collect", f"{s3.address}/out", "-o", tmp_path / "all.csv").code == 0
    assert len(pd.read_csv(tmp_path / "all.csv")) == 600
    assert mtl("report", f"{s3.address}/out", "-o", tmp_path / "page.html").code == 0
    status = json.loads(mtl("status", job, "--json", MTL_REDIS_URL=workers.url).out)
    assert (status["state"], status["rows"]["failed"]) == ("done", 1)
    # The same submit finds the whole output; another job's output is refused.
    again = mtl("label", tmp_path / "in.csv", "-o", f"{s3.address}/out", MTL_REDIS_URL=workers.url)
    assert (again.code, "holds the output of another job" in again.err) == (2, True)
    told = [
        workers.logs(),
        json.dumps(status),
        *(p.read_text() for p in s3.path("out").glob("_*.*")),
    ]
    dumped = json.dumps([str(value) for value in redis_content(workers.url)])
    assert not [text for text in (*told, dumped) if SECRET in text or "AKIAMADEUP" in text]


def redis_content(url: str) -> list[object]:
    import redis

    with redis.Redis.from_url(url) as client:
        names = client.keys("*")
        return [client.dump(name) for name in names] + [
            client.hgetall(n) for n in names if client.type(n) == b"hash"
        ]


@pytest.mark.slow
@pytest.mark.faults
def test_the_store_is_killed_in_mid_job_and_started_again(
    s3: S3Server,
    mtl: Mtl,
    workers: Workers,
    submitted: Callable[..., str],
    recovered: Callable[[str, float], None],
) -> None:
    for _ in range(2):
        workers.start()
    job = submitted(rows=2000, shard_rows=10)
    wait_until(lambda: parts(s3) >= 20, 60, "parts")
    s3.kill()
    time.sleep(4)  # longer than a lease: beats go to Redis, which is there
    before = parts(s3)
    s3.start()
    recovered(
        "object store SIGKILLed for 4 s",
        wait_until(lambda: parts(s3) > before + 1, 30, "more parts"),
    )
    wait_until(s3.path("out/_SUCCESS").exists, 60, "the job's end")
    check(s3, mtl, 2000, job, workers.url)
    attempts = json.loads(mtl("status", job, "--json", MTL_REDIS_URL=workers.url).out)["attempts"]
    assert {a["outcome"] for a in attempts} == {"done"}  # nobody was blamed for it


@pytest.mark.slow
@pytest.mark.faults
def test_a_store_away_for_longer_than_the_patience_pauses_the_job(
    s3: S3Server, mtl: Mtl, workers: Workers, submitted: Callable[..., str]
) -> None:
    workers.start(MTL_STORE_PATIENCE_S="1")
    job = submitted(rows=1000, shard_rows=10)
    wait_until(lambda: parts(s3) >= 5, 60, "parts")
    s3.kill()

    def status() -> dict[str, str]:
        return dict(json.loads(mtl("status", job, "--json", MTL_REDIS_URL=workers.url).out))

    wait_until(lambda: status()["state"] == "paused", 30, "the job is paused")
    reason = status()["reason"]
    assert "the store does not answer: s3://bucket/out" in reason
    assert "mend that, then `mtl retry" in reason
    s3.start()
    done = mtl("retry", job, MTL_REDIS_URL=workers.url)
    assert done.code == 0, done.err
    check(s3, mtl, 1000, job, workers.url)


@pytest.mark.slow
@pytest.mark.faults
def test_a_worker_killed_in_mid_job_leaves_no_row_twice_in_a_store(
    s3: S3Server, mtl: Mtl, workers: Workers, submitted: Callable[..., str]
) -> None:
    first = workers.start()
    job = submitted(rows=1000, shard_rows=10)
    wait_until(lambda: parts(s3) >= 10, 60, "parts")
    workers.start()
    workers.kill(first)
    wait_until(s3.path("out/_SUCCESS").exists, 60, "the job's end")
    check(s3, mtl, 1000, job, workers.url)


@pytest.mark.slow
@pytest.mark.faults
def test_training_killed_on_one_host_goes_on_from_its_checkpoint_on_another(
    s3: S3Server, mtl: Mtl, workers: Workers, tiny_backbone: Path, made_data: Path, tmp_path: Path
) -> None:
    models = {"MTL_MODELS_DIR": f"{s3.address}/models", "MTL_REDIS_URL": workers.url}
    models["MTL_THREADS"] = "1"
    first = workers.start(**models, MTL_STATE_DIR=str(tmp_path / "host-1"))
    arguments = ("--scenario", "full", "--name", "mine", "--data", made_data, "--epochs", "30")
    arguments = (*arguments, "--backbone", tiny_backbone)
    done = mtl("train", *arguments, "--detach", "--json", **models)
    assert done.code == 0, done.err
    job = json.loads(done.out)["id"]
    checkpoints = s3.path(f"models/_checkpoints/{job}")
    wait_until(
        lambda: len(list(checkpoints.glob("step-*.json"))) > 0, 60, "a checkpoint in the store"
    )
    workers.kill(first)
    shutil.rmtree(tmp_path / "host-1")
    assert mtl("models", **models).out.count("mine") == 0
    workers.start(**models, MTL_STATE_DIR=str(tmp_path / "host-2"))
    wait_until(s3.path("models/mine/config.json").exists, 90, "the model")
    # os.walk, since a glob raises where the server removes the folder while it looks.
    wait_until(lambda: not any(f for *_, f in os.walk(checkpoints)), 10, "no checkpoint is left")
    assert "mine" in mtl("models", **models).out
    model = find_model("mine", place_of(f"{s3.address}/models"), tmp_path / "copies")
    assert len(load_model(model.folder).model.encode(["a fine film"])) == 1
    assert {"topic", "sentiment"} == set(model.metrics())
