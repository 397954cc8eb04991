"""Tell an address that a job has come to rest: one POST of JSON, signed if there is a secret.

Headers and signature are those of Standard Webhooks (https://www.standardwebhooks.com), which many
receivers can check; ``webhook-id`` is the same however often a notice is repeated.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from jobs.ledger.ledger import Ledger
from jobs.ledger.notices import Notice
from jobs.output.layout import MANIFEST
from jobs.settings import Settings
from jobs.specs import LabelSpec
from mtl_core import __version__
from mtl_core.errors import SettingsError
from mtl_core.storage.address import place_of

TIMEOUT_S = 10.0


class NotDeliveredError(Exception):
    """A notice did not arrive; the message says why, in a line."""


def check_url(url: str, settings: Settings) -> None:
    """Refuse an address that notices may not go to.

    That is any but ``https://``; ``http://`` is for this machine and the hosts of ``notify_hosts``.

    Raises:
        SettingsError: it may not, or is no address; the message shows no password.
    """
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.hostname or ''}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--notify {shown}: no address; it looks like https://HOST/PATH")
    if parts.username or parts.password:
        raise SettingsError(
            f"--notify {shown}: an address holds no password; notices are signed by "
            "MTL_NOTIFY_SECRET"
        )
    allowed = {host.strip() for host in (settings.notify_hosts or "").split(",")}
    near = _is_loopback(parts.hostname) or parts.hostname in allowed
    if parts.scheme == "http" and not near:
        raise SettingsError(
            f"--notify {shown}: plain http is for this machine alone; give https://, or name the "
            "host in MTL_NOTIFY_HOSTS (of submitter and workers)"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def content(ledger: Ledger, notice: Notice) -> dict[str, Any]:
    """The JSON of a notice: what ``mtl status --json`` shows, and where the result is.

    Raises:
        JobError: the job has been forgotten.
    """
    snapshot, spec = notice.snapshot, ledger.spec(notice.snapshot.id)
    data = {**snapshot.as_json(), "output": spec.output}
    if isinstance(spec, LabelSpec):
        data |= {"output": spec.target, "manifest": place_of(spec.target).at(MANIFEST)}
        data |= {"generation": spec.generation} if spec.appends else {}
    at = datetime.fromtimestamp(snapshot.changed_s, UTC).isoformat(timespec="seconds")
    return {"type": f"job.{snapshot.state}", "timestamp": at, "data": data}


def send(ledger: Ledger, notice: Notice, settings: Settings) -> None:
    """Tell a notice once.

    Raises:
        NotDeliveredError: the address may not be told, did not answer, or answered otherwise than
            by 2xx.
        JobError: the job has been forgotten.
    """
    body = json.dumps(content(ledger, notice), ensure_ascii=False).encode()
    try:
        check_url(notice.url, settings)
        request = urllib.request.Request(notice.url, body, _headers(notice.id, body, settings))
        with _OPENER.open(request, timeout=TIMEOUT_S):
            return
    except SettingsError as error:
        raise NotDeliveredError(str(error)) from error
    except urllib.error.HTTPError as error:
        raise NotDeliveredError(f"answered {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise NotDeliveredError(f"no answer ({reason})") from error


def _headers(name: str, body: bytes, settings: Settings) -> dict[str, str]:
    at = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"mtl-batch/{__version__}",
        "webhook-id": name,
        "webhook-timestamp": at,
    }
    if settings.notify_secret is not None:
        secret = settings.notify_secret.get_secret_value()
        headers["webhook-signature"] = signature(secret, name, at, body)
    return headers


def signature(secret: str, name: str, at: str, body: bytes) -> str:
    """The header ``webhook-signature``, by HMAC-SHA256.

    Args:
        secret: as the standard writes it, ``whsec_`` and base64; else its UTF-8 bytes are the key.
        name: the header ``webhook-id``.
        at: the header ``webhook-timestamp``.
    """
    coded = secret.removeprefix("whsec_")
    own = base64.b64decode(coded) if coded != secret else secret.encode()
    digest = hmac.new(own, f"{name}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An address that was checked must not lead to one that was not."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
