"""A Redis that Sentinels watch: its address, and clients that follow whichever is its primary.

An address is ``redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT],…/NAME[/DB][?OPTIONS]``, or
``rediss+sentinel://`` where primary, replicas and Sentinels speak TLS. NAME is what the Sentinels
call the primary. Options: ``sentinel_username`` and ``sentinel_password``, where the Sentinels have
some of their own, and redis-py's ``ssl_…``.

redis-py and kombu know Sentinels, each by a spelling of its own; this module puts the one address
into both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

PLAIN, TLS = "redis+sentinel://", "rediss+sentinel://"
PORT = 26379
LIKE = f"{PLAIN}host1:{PORT},host2:{PORT},host3:{PORT}/mymaster/0"
TIMEOUT_S = 2.0
"""How long one Sentinel may take to answer; then the next is asked."""
OWN = {"sentinel_username": "username", "sentinel_password": "password"}
"""Options of the address that are for the Sentinels alone, by redis-py's names."""
OF_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
NO_REPLICAS = "NOREPLICAS"
# Found in OpenSSL's messages about a certificate that is not trusted, and about a server that does
# not speak TLS.
CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
NO_TLS = "WRONG_VERSION_NUMBER"


class NoReplicasError(redis.ConnectionError):
    """The primary takes no writes: fewer replicas follow it than its ``min-replicas-to-write``.

    It is a connection's error, since it passes: after a fail-over, until a replica has synchronised
    with the new primary; and on a primary that was cut off, until another has taken its place.
    """


class UnknownError(redis.ConnectionError):
    """The Sentinels know no primary of that name, or cannot be talked to: it does not pass."""


@dataclass(frozen=True)
class Watched:
    """A Redis by its Sentinels."""

    sentinels: tuple[tuple[str, int], ...]
    """Host and port of each."""
    name: str
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    own: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User and password of the Sentinels themselves."""
    tls: Mapping[str, Any] | None = None
    """Options of TLS, by redis-py's names; None: no TLS."""

    @property
    def of_sentinels(self) -> dict[str, Any]:
        """How to connect to a Sentinel: soon given up, since there are others to be asked."""
        waits = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        return {**waits, **self.own, **self._secured, "retry": Retry(NoBackoff(), 0)}

    @property
    def of_primary(self) -> dict[str, Any]:
        """How to log in to the primary."""
        words = {"username": self.username, "password": self.password}
        given = {name: word for name, word in words.items() if word}
        of_class = _TlsConnection if self.tls is not None else _Connection
        return {"db": self.db, "connection_class": of_class, **given, **(self.tls or {})}

    @property
    def _secured(self) -> dict[str, Any]:
        return {} if self.tls is None else {"ssl": True, **self.tls}


class _FollowsPrimary:
    """What redis-py's connections by Sentinels lack, to follow the primary in every case."""

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect; for a command that is tried again, to whichever is the primary by now.

        redis-py would go on at the address of the dead one (its issue 3874).
        """
        if retry_socket_connect and not self._sock:  # type: ignore[attr-defined]
            self.host, self.port = self.connection_pool.get_master_address()  # type: ignore[attr-defined]
        super().connect_check_health(check_health, retry_socket_connect=False)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer; the primary's refusal to write becomes an error that passes."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except redis.ResponseError as error:
            if str(error).startswith(NO_REPLICAS):
                raise NoReplicasError(str(error)) from error
            raise


class _Connection(_FollowsPrimary, SentinelManagedConnection):
    pass


class _TlsConnection(_FollowsPrimary, SentinelManagedSSLConnection):
    pass


def is_watched(url: str) -> bool:
    """Whether an address names Sentinels."""
    return url.startswith((PLAIN, TLS))


def parse(url: str) -> Watched:
    """Read an address.

    Raises:
        ValueError: it cannot be; the message shows no password.
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    login, _, places = rest.rpartition("@")
    hosts, _, path = places.partition("/")
    if "@" in login or "/" in login or "@" in query:
        raise ValueError("write @ / ? in a password as %40 %2F %3F; user and password stand once")
    name, _, db = path.partition("/")
    if not name:
        raise ValueError("the primary's name is missing behind the hosts")
    if not (db or "0").isdecimal():
        raise ValueError(f"the database behind {name}/ is no number")
    options = _options(query)
    tls = {key: value for key, value in options.items() if key in OF_TLS}
    if tls and scheme == "redis+sentinel":
        raise ValueError(f"{next(iter(tls))} needs {TLS}")
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = tls["ssl_check_hostname"].lower() != "false"
    username, _, password = login.partition(":")
    return Watched(
        sentinels=tuple(_host(text) for text in hosts.split(",")),
        name=unquote(name),
        db=int(db or 0),
        username=unquote(username),
        password=unquote(password),
        own={OWN[key]: value for key, value in options.items() if key in OWN},
        tls=tls if f"{scheme}://" == TLS else None,
    )


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in OWN and key not in OF_TLS:
            raise ValueError(f"no option '{key}'; there are {', '.join((*OWN, *OF_TLS))}")
    return options


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing between the commas")
    return unquote(parts.hostname), parts.port or PORT


def sentinels_of(watched: Watched) -> Sentinel:
    """The Sentinels, to be asked."""
    return Sentinel(watched.sentinels, sentinel_kwargs=watched.of_sentinels)  # type: ignore[no-untyped-call]


def client(watched: Watched, **options: Any) -> redis.Redis:
    """A client of the primary; each of its connections asks the Sentinels which that is.

    Args:
        options: of the connections, as :class:`redis.Redis` takes them.
    """
    sentinels = sentinels_of(watched)
    found: redis.Redis = sentinels.master_for(watched.name, **watched.of_primary, **options)  # type: ignore[no-untyped-call]
    return found


def broker_url(watched: Watched) -> str:
    """The address as kombu spells it: one for each Sentinel, separated by semicolons."""
    login = f"{quote(watched.username, safe='')}:{quote(watched.password, safe='')}@"
    query = f"?{urlencode(watched.tls)}" if watched.tls else ""
    urls = []
    for host, port in watched.sentinels:
        at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        urls.append(f"sentinel://{login if login != ':@' else ''}{at}/{watched.db}{query}")
    return ";".join(urls)


def broker_options(watched: Watched) -> dict[str, Any]:
    """What kombu's ``transport_options`` must say beside the address."""
    return {"master_name": watched.name, "sentinel_kwargs": watched.of_sentinels}


def asked(watched: Watched) -> list[dict[str, Any] | redis.RedisError]:
    """What each Sentinel says of the primary, or why it says nothing.

    Empty from one that knows no primary of that name.
    """
    return [_ask(each, watched.name) for each in sentinels_of(watched).sentinels]


def _ask(each: redis.Redis, name: str) -> dict[str, Any] | redis.RedisError:
    try:
        told: dict[str, Any] = each.sentinel_masters().get(name, {})  # type: ignore[no-untyped-call]
        return told
    except redis.RedisError as error:
        return error


def trouble(watched: Watched, shown: str) -> tuple[str, bool]:
    """Why no primary was found, in one line; and whether that may pass by itself.

    Args:
        shown: the address, without passwords.
    """
    answers = asked(watched)
    told = [answer for answer in answers if isinstance(answer, dict)]
    if not told and any(isinstance(answer, redis.AuthenticationError) for answer in answers):
        return f"the Sentinels at {shown} refuse the password; check sentinel_password", False
    if not told and any(CERTIFICATE in str(answer) for answer in answers):
        wrong = "show a certificate that is not trusted; check MTL_REDIS_CA and their names"
        return f"the Sentinels at {shown} {wrong}", False
    if not told and any(NO_TLS in str(answer) for answer in answers):
        return f"the Sentinels at {shown} do not speak TLS; use {PLAIN}", False
    if not told:
        return f"no Sentinel answers at {shown}; start them, or check MTL_REDIS_URL", True
    if not any(told):
        known = f"know no primary '{watched.name}'"
        return f"the Sentinels at {shown} {known}; check MTL_REDIS_URL", False
    waits = "see no primary that is up; they choose another, or start one"
    return f"the Sentinels at {shown} {waits}", True
