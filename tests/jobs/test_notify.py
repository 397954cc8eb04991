"""`--notify URL`: an address is told, once and signed, whatever way a job ends."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from specs import TRAIN_SPEC
from support import Mtl

from jobs.cli.shared.common import Backend
from jobs.cli.shared.notice import ask_for_notice
from jobs.ledger.ledger import Ledger
from jobs.ledger.lifecycle import JobState
from jobs.ledger.notices import NOTICES, ask, due, note_told
from jobs.notify import check_url, content, signature
from jobs.settings import Settings
from mtl_core.errors import SettingsError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """A web server that keeps what is posted to it."""

    answers: list[int]
    """Codes of its answers, the last one for all further ones."""
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    def data(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.posts]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver([200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = found.answers.pop(0) if len(found.answers) > 1 else found.answers[0]
            found.posts.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(code)
            if code == 302:
                self.send_header("Location", f"{found.url}/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.org/x", "plain http is for this machine alone"),
        ("http://127.0.0.1.example.org/", "plain http is for this machine alone"),
        ("ftp://example.org", "it looks like https://HOST/PATH"),
        ("https://", "it looks like https://HOST/PATH"),
        ("https://me:word@example.org/", "holds no password"),
    ],
)
def test_an_address_that_may_not_be_told_is_refused(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        check_url(url, Settings())
    assert "word@" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/x", "http://localhost:1/", "http://[::1]/", "http://inner/x"]
)
def test_https_this_machine_and_hosts_of_the_settings_may_be_told(url: str) -> None:
    check_url(url, Settings(notify_hosts="other, inner"))


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the reference libraries.
    body = b'{"test": 2432232314}'
    found = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_not_shown() -> None:
    assert "word" not in str(Settings(notify_secret=SecretStr("word")).notify_secret)


@pytest.mark.slow
def test_a_job_tells_its_end_again_until_it_is_heard(
    mtl: Mtl, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answers = [500, 302, 204]
    (tmp_path / "in.csv").write_text("text\na fine film\na dull one\n")
    options = {"MTL_NOTIFY_SECRET": SECRET, "MTL_RECONCILE_S": "0.5"}
    ran = mtl(
        "label", tmp_path / "in.csv", "-o", tmp_path / "out", "--notify", receiver.url, **options
    )
    assert ran.code == 0, ran.err
    assert len(receiver.posts) == 3
    assert len({body for _, body in receiver.posts}) == 1
    headers, body = receiver.posts[-1]
    name, at = headers["webhook-id"], headers["webhook-timestamp"]
    assert headers["webhook-signature"] == signature(SECRET, name, at, body)
    assert abs(int(at) - time.time()) < 60
    told = receiver.data()[-1]
    assert told["type"] == "job.done"
    assert told["data"]["rows"] == {"total": 2, "done": 2, "failed": 0}
    assert told["data"]["manifest"] == str(tmp_path / "out/_manifest.json")
    assert SECRET not in mtl("config", **options).out


def test_every_end_is_told_once_and_that_of_a_retry_too(redis_url: str) -> None:
    ledger, job = Ledger(redis_url, Settings()), "train-told"
    ledger.create(job, TRAIN_SPEC)
    ask(ledger, job, "https://example.org/hook")
    ledger.transition(job, JobState.RUNNING)
    assert not list(due(ledger))
    for state in (JobState.PAUSED, JobState.FAILED):
        ledger.transition(job, state, "why")
        (notice,) = due(ledger)
        assert content(ledger, notice)["type"] == f"job.{state}"
        assert content(ledger, notice)["data"]["reason"] == "why"
        note_told(ledger, notice)
        assert not list(due(ledger))
        ledger.reopen(job)
        ledger.transition(job, JobState.RUNNING)
    ledger.transition(job, JobState.FINALISING)
    ledger.transition(job, JobState.DONE)
    (notice,) = due(ledger)
    note_told(ledger, notice)
    assert not ledger.redis.smembers(NOTICES)


def test_a_job_that_is_joined_tells_too_and_one_done_before_does_not(redis_url: str) -> None:
    ledger, job, url = Ledger(redis_url, Settings()), "train-told", "https://example.org/hook"
    where = Backend(ledger, embedded=False)
    ledger.create(job, TRAIN_SPEC)
    ledger.transition(job, JobState.RUNNING)
    ask_for_notice(where, job, url, new=False)
    ledger.transition(job, JobState.FINALISING)
    ledger.transition(job, JobState.DONE)
    (notice,) = due(ledger)
    note_told(ledger, notice)
    ask_for_notice(where, job, "https://example.org/other", new=False)
    assert not list(due(ledger))
    assert not ledger.redis.smembers(NOTICES)


def test_a_forgotten_job_has_nothing_to_tell(redis_url: str) -> None:
    ledger = Ledger(redis_url, Settings())
    ledger.create("train-told", TRAIN_SPEC)
    ask(ledger, "train-told", "https://example.org/hook")
    ledger.delete("train-told")
    assert not list(due(ledger))
    assert not ledger.redis.smembers(NOTICES)
