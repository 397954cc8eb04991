"""The address of a Redis that Sentinels watch: how it is read, passed on, and shown."""

import os

import pytest
from kombu import Connection
from kombu.transport.redis import SentinelChannel

from jobs.ledger import sentinel
from jobs.ledger.connection import client, reachable, watched_by, without_password
from jobs.ledger.messages import broker_options, broker_url
from jobs.settings import Settings
from mtl_core.errors import LedgerUnreachableError

URL = "redis+sentinel://us%40r:p%2Fw%3B@one:1,two,[::1]:3/mine/5?sentinel_password=own"


def test_an_address_names_sentinels_primary_database_and_both_passwords() -> None:
    found = sentinel.parse(URL)
    assert found.sentinels == (("one", 1), ("two", 26379), ("::1", 3))
    assert (found.name, found.db) == ("mine", 5)
    assert (found.username, found.password) == ("us@r", "p/w;")
    assert found.own == {"password": "own"}
    assert found.tls is None
    shortest = sentinel.parse("redis+sentinel://one/mine")
    assert (shortest.sentinels, shortest.db, shortest.password) == ((("one", 26379),), 0, "")


def test_a_client_has_what_the_address_says() -> None:
    pool = client(URL, patience=2).connection_pool
    assert pool.service_name == "mine"
    kept = pool.connection_kwargs
    assert (kept["username"], kept["password"], kept["db"]) == ("us@r", "p/w;", 5)
    assert kept["decode_responses"]
    for each, port in zip(pool.sentinel_manager.sentinels, (1, 26379, 3), strict=True):
        own = each.connection_pool.connection_kwargs
        assert (own["port"], own["password"], own["db"]) == (port, "own", 0)
        assert own["socket_timeout"] == sentinel.TIMEOUT_S


def test_celery_has_what_the_address_says_and_keeps_the_order_of_queues() -> None:
    options = broker_options(URL, queue_order_strategy="worker.process.queue_order:ByPriority")
    with Connection(broker_url(URL), transport_options=options) as connection:
        channel = connection.transport.Channel
        assert channel is SentinelChannel
        assert (connection.userid, connection.password) == ("us@r", "p/w;")
        assert connection.virtual_host == "5"
        assert len(connection.alt) == 3
        assert "p%2Fw" not in connection.as_uri()
    assert options["master_name"] == "mine"
    assert options["sentinel_kwargs"]["password"] == "own"
    assert options["queue_order_strategy"].endswith("ByPriority")
    assert broker_options("redis://h:1/0", socket_timeout=3) == {"socket_timeout": 3}


def test_with_tls_primary_sentinels_and_broker_demand_the_authoritys_certificate(
    tmp_path: os.PathLike[str],
) -> None:
    authority = f"{os.fspath(tmp_path)}/ca.pem"
    with open(authority, "w"):
        pass
    url = Settings(redis_url="rediss+sentinel://one,two/mine", redis_ca=authority).redis_url
    assert url is not None
    found = sentinel.parse(url)
    assert found.tls == {"ssl_cert_reqs": "required", "ssl_ca_certs": authority}
    kept = client(url, patience=0).connection_pool
    assert issubclass(kept.connection_class, sentinel.SentinelManagedSSLConnection)
    assert kept.connection_kwargs["ssl_ca_certs"] == authority
    own = broker_options(url)["sentinel_kwargs"]
    assert (own["ssl"], own["ssl_ca_certs"]) == (True, authority)
    for each in broker_url(url).split(";"):
        ssl = Connection(each).ssl
        assert ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"
        assert ssl["ssl_ca_certs"] == authority


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+sentinel://one,two", "primary's name is missing"),
        ("redis+sentinel://one,two/", "primary's name is missing"),
        ("redis+sentinel://one,,two/mine", "a host is missing"),
        ("redis+sentinel://one:port/mine", "Port could not be cast"),
        ("redis+sentinel://one/mine/x", "is no number"),
        ("redis+sentinel://one/mine?speed=1", "no option 'speed'; there are sentinel_username"),
        ("redis+sentinel://one/mine?ssl_ca_certs=a", "ssl_ca_certs needs rediss+sentinel://"),
        ("redis+sentinel://:secret@one,:secret@two/mine", "stand once"),
        ("redis+sentinel://:sec?ret@one/mine", "%3F"),
        ("redis+sentinel://:sec/ret@one/mine", "%2F"),
        ("redis+sentinel://one/mine?sentinel_password=sec@ret", "%40"),
    ],
)
def test_a_wrong_address_is_one_line_without_its_password(url: str, says: str) -> None:
    with pytest.raises(LedgerUnreachableError) as raised:
        client(url, patience=0)
    said = str(raised.value)
    assert says in said
    assert "it looks like redis+sentinel://host1:26379," in said
    assert "\n" not in said
    assert "secret" not in said
    assert "ret@" not in said
    with pytest.raises(LedgerUnreachableError):
        broker_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "redis+sentinel://one:1,two,[::1]:3/mine/5"),
        ("redis+sentinel://:a@one,:b@two/mine", "redis+sentinel://two/mine"),
        ("redis+sentinel://one/m?sentinel_password=a@b", "redis+sentinel://…"),
        ("redis+sentinel://one/m?sentinel_username=a&ssl_x=y", "redis+sentinel://one/m?ssl_x=y"),
        ("redis://h:1/0?password=a@b", "redis://…"),
        ("redis://u:p@h:1/0?db=1", "redis://h:1/0?db=1"),
    ],
)
def test_an_address_is_shown_without_any_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_sentinels_that_do_not_answer_are_named_in_one_line() -> None:
    url = "redis+sentinel://:secret@127.0.0.1:1,127.0.0.1:2/mine"
    with pytest.raises(LedgerUnreachableError) as raised, reachable(url):
        client(url, patience=0).ping()
    said = str(raised.value)
    assert said.startswith("no Sentinel answers at redis+sentinel://127.0.0.1:1,127.0.0.1:2/mine;")
    assert "secret" not in said


def test_a_plain_address_names_no_sentinels() -> None:
    assert watched_by("redis://h:1/0") is None
    assert watched_by("unix:///run/r.sock?db=0") is None
