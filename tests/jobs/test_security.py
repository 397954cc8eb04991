"""What a job may touch, and what is never shown."""

import json
import os
import shutil
import socket
from pathlib import Path

import psutil
import pytest
from support import Mtl, RedisServer, Workers, wait_until

from jobs.roots import check_inside, model_folder
from jobs.settings import Settings
from jobs.train.request import TrainRequest, train_spec
from mtl_core.errors import BackboneError, SettingsError
from mtl_core.model.backbones import weights_sha256
from mtl_core.model.registry import SHIPPED_MODELS, find_model


@pytest.fixture
def rooted(tmp_path: Path) -> Settings:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "other").mkdir()
    return Settings(roots=f"{tmp_path / 'allowed'}{os.pathsep}{tmp_path / 'allowed2'}")


def test_paths_below_a_root_may_be_used(rooted: Settings, tmp_path: Path) -> None:
    assert check_inside(tmp_path / "allowed/out", rooted) == tmp_path / "allowed/out"
    assert check_inside(tmp_path / "anything", Settings()) == tmp_path / "anything"


@pytest.mark.parametrize("path", ["other/out", "allowed/../other/out", "allowed-not", "."])
def test_paths_outside_the_roots_are_refused(path: str, rooted: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="outside the folders that jobs may use"):
        check_inside(f"{tmp_path}/{path}", rooted)


def test_a_symbolic_link_does_not_lead_out_of_a_root(rooted: Settings, tmp_path: Path) -> None:
    (tmp_path / "allowed/link").symlink_to(tmp_path / "other")
    with pytest.raises(SettingsError, match="outside"):
        check_inside(tmp_path / "allowed/link/out", rooted)


def test_a_backbone_outside_the_roots_is_refused_in_training_and_in_labelling(
    rooted: Settings, tmp_path: Path, tiny_backbone: Path
) -> None:
    request = TrainRequest(preset="recommended", backbone=str(tiny_backbone))
    with pytest.raises(SettingsError, match="tiny-bert lies outside"):
        train_spec(request, "full", "mine", rooted)
    # A model below a root whose backbone is not.
    model = tmp_path / "allowed/model"
    model.mkdir()
    config = json.loads((SHIPPED_MODELS / "default/config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"backbone": str(tiny_backbone)}))
    with pytest.raises(SettingsError, match="tiny-bert lies outside"):
        model_folder(str(model), "", rooted)


def test_a_relative_models_folder_stands_in_a_spec_as_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = train_spec(
        TrainRequest(preset="recommended"), "full", "mine", Settings(models_dir="models")
    )
    assert spec.output == str(tmp_path / "models/mine")
    model = tmp_path / "models/mine"
    shutil.copytree(SHIPPED_MODELS / "default", model)
    entry = find_model("mine", Settings(models_dir="models").models)
    assert str(entry.home) == str(model)


def test_weights_that_can_carry_code_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BackboneError, match=r"no \.safetensors file; only that format is loaded"):
        weights_sha256(tmp_path)


def test_submitting_outside_the_roots_is_refused(mtl: Mtl, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("x\n")
    roots = str(tmp_path / "allowed")
    done = mtl("label", tmp_path / "in.txt", "-o", tmp_path / "allowed/out", MTL_ROOTS=roots)
    assert (done.code, len(done.err.strip().splitlines())) == (2, 1)
    assert "in.txt lies outside" in done.err


@pytest.mark.slow
def test_a_worker_refuses_a_job_outside_its_own_roots(
    mtl: Mtl, workers: Workers, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("x\n")
    arguments = ("label", tmp_path / "in.txt", "-o", tmp_path / "out", "--detach", "--json")
    job = json.loads(mtl(*arguments, MTL_REDIS_URL=workers.url).out)["id"]
    workers.start(MTL_ROOTS=str(tmp_path / "allowed"))

    def status() -> dict[str, str]:
        done = mtl("status", job, "--json", MTL_REDIS_URL=workers.url)
        return dict(json.loads(done.out))

    wait_until(lambda: status()["state"] == "failed", 60, "the job is refused")
    assert "lies outside the folders" in status()["reason"]
    assert not list((tmp_path / "out").glob("part-*"))


@pytest.mark.slow
def test_a_password_is_in_no_log_no_manifest_and_no_command_line(mtl: Mtl, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = RedisServer(tmp_path, port=port, password="hunter2secret")
    server.start()
    workers = Workers(server.url, tmp_path, {})
    try:
        (tmp_path / "in.txt").write_text("a fine film\n")
        worker = workers.start()
        done = mtl("label", tmp_path / "in.txt", "-o", tmp_path / "out", MTL_REDIS_URL=server.url)
        assert done.code == 0, done.err
        lines = [
            " ".join(process.cmdline())
            for process in [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        ]
        shown = [done.out, done.err, workers.logs(), *lines]
        shown += [path.read_text() for path in (tmp_path / "out").glob("_*")]
        assert not [text for text in shown if "hunter2secret" in text]
        wrong = mtl("status", MTL_REDIS_URL=server.url.replace("hunter2secret", "wrongsecret"))
        assert wrong.code == 4
        assert "wrongsecret" not in wrong.err
        assert "refuses the password" in wrong.err
    finally:
        for process in workers.running:
            workers.kill(process)
        server.stop()
