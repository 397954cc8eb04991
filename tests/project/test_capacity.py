"""The simulated week: KEDA's rule as it is deployed, and what comes of it."""

import math
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import yaml
from support import REPOSITORY, pace

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture(scope="module")
def keda() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import keda

        yield keda
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_rule_simulated_is_the_rule_deployed(keda: ModuleType) -> None:
    documents = yaml.safe_load_all((REPOSITORY / "deploy/kubernetes/keda/scaled.yaml").read_text())
    spec = next(d["spec"] for d in documents if d["kind"] == "ScaledObject")
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert spec["minReplicaCount"] == 0
    assert keda.Rule() == keda.Rule(
        polling_s=spec["pollingInterval"],
        cooldown_s=spec["cooldownPeriod"],
        per_worker=int(spec["advanced"]["scalingModifiers"]["target"]),
        most=spec["maxReplicaCount"],
        stabilise_s=down["stabilizationWindowSeconds"],
    )


def test_from_none_to_the_most_and_back_to_none(keda: ModuleType) -> None:
    cluster = keda.Cluster(
        [keda.Batch(600, 2_000_000)], shard_rows=2000, shard_s=3, rule=keda.Rule()
    )
    week = cluster.run(7200)
    counts = [count for _, count in week.workers]
    assert (counts[0], max(counts), counts[-1]) == (0, 10, 0)
    assert counts[1] == 1  # KEDA starts one, the autoscaler the others
    assert counts[2] == 5  # four more at a time, or twice as many
    # 1,000 shards of 3 s on ten workers, and the time until these are there.
    assert 300 < week.waits_s[0] < 300 + 3 * 150
    assert week.given_back == 0
    assert week.seconds_with(0, 7200) > 7200 - 300 - week.waits_s[0] - 300


def test_a_queue_that_is_short_keeps_one_worker_and_never_more(keda: ModuleType) -> None:
    batches = [keda.Batch(60 * n, 2000 * 15) for n in range(20)]
    at_once = keda.Start(node_s=0, image_s=0, ready_s=1, linger_s=0)
    cluster = keda.Cluster(batches, shard_rows=2000, shard_s=1, rule=keda.Rule(), start=at_once)
    week = cluster.run(3600)
    assert {count for _, count in week.workers} == {0, 1}


def test_a_shard_that_takes_longer_than_the_cooldown_is_given_back_and_counted(
    keda: ModuleType,
) -> None:
    weeks = [
        keda.Cluster([keda.Batch(0, 100)], shard_rows=100, shard_s=seconds, rule=keda.Rule()).run(
            2000
        )
        for seconds in (100, 500)
    ]
    assert weeks[0].given_back == 0
    assert weeks[0].waits_s[0] < 300
    assert weeks[1].given_back > 1  # begun again and again
    assert weeks[1].waits_s == [math.inf]


def test_fixed_workers_are_paid_for_all_the_time(keda: ModuleType) -> None:
    week = keda.Cluster([keda.Batch(0, 4000)], shard_rows=1000, shard_s=10, fixed=2).run(7200)
    assert week.machine_s == 2 * 7200
    assert week.waits_s == [20]


def test_an_empty_machine_is_kept_and_taken_again_without_a_pull(keda: ModuleType) -> None:
    batches = [keda.Batch(0, 1000), keda.Batch(400, 1000)]
    start = keda.Start(node_s=90, image_s=40, ready_s=10, linger_s=600)
    rule = keda.Rule(cooldown_s=30)
    week = keda.Cluster(batches, shard_rows=1000, shard_s=10, rule=rule, start=start).run(3600)
    first, second = week.waits_s
    assert 140 + 10 <= first <= 140 + 10 + rule.polling_s
    assert 10 + 10 <= second <= 10 + 10 + rule.polling_s
    # One machine, from the first look to ten minutes after its last worker.
    assert week.machine_s < 400 + 100 + 600


def test_the_same_load_gives_the_same_week(keda: ModuleType) -> None:
    weeks = [
        keda.Cluster(
            keda.workdays(500_000, 20_000), shard_rows=2048, shard_s=3, rule=keda.Rule()
        ).run(7 * keda.DAY_S)
        for _ in range(2)
    ]
    assert weeks[0] == weeks[1]
    assert len(weeks[0].waits_s) == 51


def test_the_command_prints_a_week_by_keda_and_by_fixed_workers() -> None:
    command = [sys.executable, str(BENCHMARKS / "capacity.py"), "week", "--rows-per-s", "5000"]
    done = subprocess.run(
        [*command, "--weekly", "2e5", "--hourly", "1e4", "--fixed", "2"],
        capture_output=True,
        text=True,
        timeout=60 * pace(),
    )
    assert done.returncode == 0, done.stderr
    by_keda, fixed = yaml.safe_load(done.stdout)
    assert by_keda["hours_with_none"] > 100
    assert fixed["machine_hours"] == 2 * 7 * 24
