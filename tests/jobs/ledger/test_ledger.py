"""The ledger on a real Redis: claims, beats, completions, failures, and the lifecycle."""

import time
from pathlib import Path

import pytest
from specs import TRAIN_SPEC

from jobs.ledger.cancel import cancel_job
from jobs.ledger.connection import reachable, without_password
from jobs.ledger.ledger import JobClosed, Ledger
from jobs.ledger.lifecycle import ENDED, TRANSITIONS, JobState
from jobs.ledger.messages import Publisher
from jobs.ledger.presence import Lock
from jobs.ledger.scripts import key
from jobs.settings import Settings
from jobs.specs import InputFile, LabelSpec, TrainSpec, job_id, parse_spec
from jobs.train.submit import AGAIN, submit_train
from mtl_core.errors import JobError, StoreError

JOB = "train-test"


@pytest.fixture
def ledger(redis_url: str) -> Ledger:
    quick = Ledger(redis_url, Settings(lease_s=0.2, beat_s=0.1, max_attempts=2))
    quick.create(JOB, TRAIN_SPEC)
    quick.add_shards(JOB, {"0": {"rows": 5}, "1": {"rows": 7}})
    quick.update(JOB, planned=1, rows_total=12)
    quick.transition(JOB, JobState.RUNNING)
    return quick


def test_a_shard_is_leased_to_one_worker_only(ledger: Ledger) -> None:
    first = ledger.claim(JOB, "0", "token-a", "worker-a")
    assert (first.answer, first.attempt, first.shard) == ("LEASED", 1, {"rows": 5})
    assert ledger.claim(JOB, "0", "token-b", "worker-b").answer == "BUSY"


def test_a_lease_that_ran_out_goes_to_the_next_and_counts_as_an_attempt(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "token-a", "worker-a")
    time.sleep(0.25)
    assert ledger.claim(JOB, "0", "token-b", "worker-b").answer == "BUSY"
    ledger.reconcile(JOB, stale_s=60, expire=True)
    assert ledger.claim(JOB, "0", "token-b", "worker-b").attempt == 2
    assert ledger.attempts(JOB)[0]["outcome"] == "lost"
    assert ledger.attempts(JOB)[0]["worker"] == "worker-a"


def test_beats_keep_a_lease(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "token-a", "worker-a")
    for done in range(4):
        time.sleep(0.1)
        assert ledger.beat(JOB, "0", "token-a", done) == "OK"
    assert ledger.snapshot(JOB).rows.done == 3


def test_a_late_worker_is_told_it_is_stale(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "token-a", "worker-a")
    time.sleep(0.25)
    ledger.reconcile(JOB, stale_s=60, expire=True)
    ledger.claim(JOB, "0", "token-b", "worker-b")
    assert ledger.beat(JOB, "0", "token-a", 1) == "STALE"
    assert ledger.complete(JOB, "0", "token-a", {"rows": 5, "failed": 0}) == "STALE"
    assert ledger.fail(JOB, "0", "token-a", "x") == "STALE"
    assert ledger.release(JOB, "0", "token-a", "x") == "STALE"
    assert ledger.complete(JOB, "0", "token-b", {"rows": 5, "failed": 0}) == "OK"
    assert ledger.complete(JOB, "0", "token-b", {"rows": 5, "failed": 0}) == "DUPLICATE"
    assert ledger.snapshot(JOB).rows.done == 5


def test_the_last_completion_says_so_once(ledger: Ledger) -> None:
    for shard, expected in (("0", "OK"), ("1", "LAST")):
        ledger.claim(JOB, shard, shard, "worker-a")
        assert ledger.complete(JOB, shard, shard, {"rows": 1, "failed": 0}) == expected


def test_a_job_still_being_planned_has_no_last_shard(ledger: Ledger) -> None:
    ledger.update(JOB, planned=0)
    for shard in ("0", "1"):
        ledger.claim(JOB, shard, shard, "worker-a")
        assert ledger.complete(JOB, shard, shard, {"rows": 1, "failed": 0}) == "OK"


def fail_once(ledger: Ledger, shard: str) -> str:
    assert ledger.claim(JOB, shard, f"t{shard}", "worker-a", insist=True).answer == "LEASED"
    return ledger.fail(JOB, shard, f"t{shard}", "it broke")


def test_a_shard_that_fails_every_attempt_is_split_and_the_bad_row_set_aside(
    ledger: Ledger,
) -> None:
    assert [fail_once(ledger, "0") for _ in range(2)] == ["RETRY", "SPLIT"]
    assert ledger.claim(JOB, "0", "t", "worker-a").answer == "GONE"
    pieces = {s: d for s, d in ledger.shards(JOB).items() if s.startswith("0.")}
    assert {s: (d["offset"], d["rows"]) for s, d in pieces.items()} == {
        f"0.{row}": (row, 1) for row in range(5)
    }
    assert [fail_once(ledger, "0.2") for _ in range(2)] == ["RETRY", "POISON"]
    assert ledger.claim(JOB, "0.2", "t", "worker-a").answer == "POISON"
    assert ledger.poisoned(JOB) == {"0.2": "it broke"}
    assert ledger.snapshot(JOB).rows.failed == 1


def test_pieces_of_a_large_shard_have_one_attempt_each_and_lose_no_row(ledger: Ledger) -> None:
    ledger.add_shards(JOB, {"9": {"rows": 100}})
    for _ in range(2):
        fail_once(ledger, "9")
    assert fail_once(ledger, "9.3") == "SPLIT"
    pieces = [d for s, d in ledger.shards(JOB).items() if s.startswith("9.")]
    covered = [row for d in pieces for row in range(d["offset"], d["offset"] + d["rows"])]
    assert sorted(covered) == list(range(100))
    assert ledger.add_shards(JOB, {"9": {"rows": 100}}) == []  # planning again


def test_a_job_in_which_nothing_but_failures_happens_is_given_up(ledger: Ledger) -> None:
    ledger.add_shards(JOB, {"9": {"rows": 4000}})
    failures = 0
    while ledger.state(JOB) is JobState.RUNNING:
        shard = next(s for s in ledger.shards(JOB) if s not in ledger.poisoned(JOB))
        fail_once(ledger, shard)
        failures += 1
    assert failures == 40
    assert "40 attempts in a row failed; the last: it broke" in ledger.snapshot(JOB).reason


def test_a_claim_repeated_with_its_token_gets_the_same_answer(ledger: Ledger) -> None:
    first = ledger.claim(JOB, "0", "t", "worker-a")
    assert ledger.claim(JOB, "0", "t", "worker-a") == first


def test_a_released_shard_is_free_at_once_and_costs_no_attempt(ledger: Ledger) -> None:
    for _ in range(5):
        assert ledger.claim(JOB, "0", "t", "worker-a").answer == "LEASED"
        assert ledger.release(JOB, "0", "t", "leaving") == "OK"


def test_reconciling_ends_leases_and_names_shards_to_hint_at_again(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "t", "worker-a")
    assert due(ledger, stale_s=60, expire=True) == []
    time.sleep(0.25)
    assert due(ledger, stale_s=60, expire=False) == []
    assert due(ledger, stale_s=60, expire=True) == ["0"]
    assert due(ledger, stale_s=60, expire=True) == []  # just hinted at
    assert due(ledger, stale_s=0, expire=True) == ["0", "1"]


def due(ledger: Ledger, stale_s: float, *, expire: bool) -> list[str]:
    found = ledger.reconcile(JOB, stale_s, expire=expire)
    assert not found.settled
    return sorted(found.due)


def test_a_closed_job_leases_nothing_and_stops_its_workers(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "t", "worker-a")
    assert ledger.transition(JOB, JobState.CANCELLING)
    assert ledger.beat(JOB, "0", "t", 1) == "CLOSED"
    assert ledger.claim(JOB, "1", "u", "worker-a").answer == "CLOSED"


def test_planning_again_leaves_finished_shards_alone(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "t", "worker-a")
    ledger.complete(JOB, "0", "t", {"rows": 5, "failed": 0})
    assert ledger.add_shards(JOB, {"0": {"rows": 5}, "2": {"rows": 1}}) == ["2"]
    assert ledger.claim(JOB, "0", "u", "worker-a").answer == "DONE"


def test_a_job_is_created_once(ledger: Ledger) -> None:
    assert not ledger.create(JOB, TRAIN_SPEC)
    assert ledger.create("train-other", TRAIN_SPEC)
    assert set(ledger.job_ids()) == {JOB, "train-other"}


def test_an_ended_job_opened_again_keeps_what_is_done(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "t", "worker-a")
    ledger.complete(JOB, "0", "t", {"rows": 5, "failed": 0})
    for _ in range(2):
        fail_once(ledger, "1")
    for piece in range(7):
        for _ in range(2):
            fail_once(ledger, f"1.{piece}")
    ledger.transition(JOB, JobState.FINALISING)
    ledger.transition(JOB, JobState.PARTIAL)
    assert ledger.redis.ttl(f"mtl:{{{JOB}}}:job") > 0
    ledger.reopen(JOB)
    assert ledger.state(JOB) is JobState.RUNNING
    assert ledger.redis.ttl(f"mtl:{{{JOB}}}:job") == -1
    snapshot = ledger.snapshot(JOB)
    assert (snapshot.rows.done, snapshot.rows.failed) == (5, 0)
    assert ledger.claim(JOB, "0", "t", "worker-a").answer == "DONE"
    assert ledger.claim(JOB, "1.6", "t", "worker-a").answer == "LEASED"


def test_a_failed_training_run_can_be_opened_again(ledger: Ledger) -> None:
    ledger.create("train-one", TRAIN_SPEC)
    ledger.add_shards("train-one", {"run": {"rows": 0}})
    ledger.update("train-one", planned=1)
    ledger.transition("train-one", JobState.RUNNING)
    for _ in range(2):
        ledger.claim("train-one", "run", "t", "worker-a", insist=True)
        answer = ledger.fail("train-one", "run", "t", "a text without a label")
    assert answer == "LAST"
    ledger.transition("train-one", JobState.FINALISING)
    ledger.transition("train-one", JobState.FAILED, "a text without a label")
    ledger.reopen("train-one")
    assert ledger.state("train-one") is JobState.RUNNING
    assert ledger.claim("train-one", "run", "t", "worker-a").answer == "LEASED"


def test_all_attempts_are_counted_though_only_the_last_thousand_are_kept(ledger: Ledger) -> None:
    for _ in range(1003):
        ledger.claim(JOB, "0", "t", "worker-a")
        ledger.release(JOB, "0", "t", "leaving")
    ledger.claim(JOB, "0", "t", "worker-a")
    ledger.complete(JOB, "0", "t", {"rows": 5, "failed": 0})
    assert len(ledger.attempts(JOB)) == 1000
    counts = {"done": 1, "failed": 0, "lost": 0, "released": 1003}
    assert ledger.snapshot(JOB).attempts == counts


def test_nothing_is_written_of_a_job_that_was_forgotten(ledger: Ledger) -> None:
    ledger.claim(JOB, "0", "t", "worker-a")
    ledger.delete(JOB)
    ledger.update(JOB, note="{}")
    with pytest.raises(JobClosed):
        ledger.add_shards(JOB, {"2": {"rows": 1}})
    assert ledger.beat(JOB, "0", "t", 1) == "STALE"
    assert ledger.complete(JOB, "0", "t", {"rows": 5, "failed": 0}) == "STALE"
    assert ledger.fail(JOB, "0", "t", "it broke") == "STALE"
    assert ledger.redis.keys("mtl:{*") == []


def test_a_job_that_was_closed_takes_no_more_shards(ledger: Ledger) -> None:
    ledger.transition(JOB, JobState.CANCELLING)
    with pytest.raises(JobClosed):
        ledger.add_shards(JOB, {"2": {"rows": 1}})


def test_a_job_made_anew_begins_with_nothing_of_the_old_one(ledger: Ledger) -> None:
    ledger.redis.delete(key(JOB, "job"))  # as if it had expired, and late workers' words not
    ledger.create(JOB, TRAIN_SPEC)
    assert ledger.redis.keys("mtl:{*") == [key(JOB, "job")]


def test_only_the_lifecycles_own_steps_are_taken(ledger: Ledger) -> None:
    assert not ledger.transition(JOB, JobState.DONE)
    assert ledger.state(JOB) is JobState.RUNNING
    assert set(TRANSITIONS) == set(JobState)
    assert not TRANSITIONS[JobState.DONE]
    for state in set(JobState) - ENDED:
        assert TRANSITIONS[state], f"{state} leads nowhere"


def test_an_unknown_job_is_an_error_of_one_line(ledger: Ledger) -> None:
    with pytest.raises(JobError, match="no job 'nope'"):
        ledger.snapshot("nope")


def test_locks_are_held_by_one_and_kept_by_their_holder(ledger: Ledger) -> None:
    mine, other = Lock(ledger.redis, "lock"), Lock(ledger.redis, "lock")
    assert mine.hold(5)
    assert mine.hold(5)
    assert not other.hold(5)
    other.release()
    assert not other.hold(5)
    mine.release()
    assert other.hold(5)


def test_a_lock_is_kept_while_its_block_runs(ledger: Ledger) -> None:
    with Lock(ledger.redis, "lock").held(0.2) as taken:
        assert taken
        time.sleep(0.5)
        with Lock(ledger.redis, "lock").held(0.2) as other:
            assert not other
    assert Lock(ledger.redis, "lock").hold(1)


def test_a_lock_that_ended_meanwhile_is_neither_kept_nor_released(ledger: Ledger) -> None:
    mine, other = Lock(ledger.redis, "lock"), Lock(ledger.redis, "lock")
    assert mine.hold(0.05)
    time.sleep(0.1)
    assert other.hold(60)
    assert not mine.hold(60)
    mine.release()
    assert not mine.hold(60)  # the other's still


@pytest.fixture
def trained(ledger: Ledger, tmp_path: Path) -> tuple[Ledger, Publisher, TrainSpec]:
    spec = TRAIN_SPEC.model_copy(update={"output": str(tmp_path / "models/m")})
    return ledger, Publisher(ledger.url), spec


@pytest.mark.parametrize("rest", [JobState.PAUSED, JobState.FAILED, JobState.CANCELLED])
def test_a_train_job_at_rest_goes_on_when_submitted_again(
    trained: tuple[Ledger, Publisher, TrainSpec], rest: JobState
) -> None:
    ledger, publisher, spec = trained
    job, new = submit_train(ledger, publisher, spec, "normal")
    assert new
    if rest is JobState.CANCELLED:
        ledger.transition(job, JobState.CANCELLING)
    assert ledger.transition(job, rest, "the disk is full")
    assert submit_train(ledger, publisher, spec, "normal") == (job, False)
    assert ledger.state(job) is JobState.RUNNING
    assert ledger.claim(job, "run", "t", "worker-a").answer == "LEASED"


def test_a_train_job_submitted_again_is_joined_refused_or_made_anew(
    trained: tuple[Ledger, Publisher, TrainSpec], tmp_path: Path
) -> None:
    ledger, publisher, spec = trained
    assert set(AGAIN) == set(JobState)
    job, _ = submit_train(ledger, publisher, spec, "normal")
    assert submit_train(ledger, publisher, spec, "normal") == (job, False)
    ledger.transition(job, JobState.CANCELLING)
    with pytest.raises(JobError, match="is cancelling; repeat the command when that is over"):
        submit_train(ledger, publisher, spec, "normal")
    ledger.transition(job, JobState.CANCELLED)
    (tmp_path / "models/m").mkdir(parents=True)
    (tmp_path / "models/m/config.json").touch()
    with pytest.raises(JobError, match="there is a model 'm' already"):
        submit_train(ledger, publisher, spec, "normal")
    assert ledger.state(job) is JobState.CANCELLED


def test_a_job_being_finalised_says_that_it_cannot_be_cancelled(ledger: Ledger) -> None:
    ledger.transition(JOB, JobState.FINALISING)
    with pytest.raises(JobError, match="is finalising: all its rows are done"):
        cancel_job(ledger, JOB)


def test_what_fails_beside_redis_is_not_laid_at_its_door() -> None:
    with pytest.raises(PermissionError), reachable("redis://host"):
        raise PermissionError(13, "Permission denied", "/data/out")
    with pytest.raises(StoreError), reachable("redis://host"):
        raise StoreError(13, "access denied", "s3://b/out")


def test_a_jobs_id_depends_on_its_spec_alone() -> None:
    assert job_id(TRAIN_SPEC) == job_id(parse_spec(TRAIN_SPEC.model_dump_json()))
    assert job_id(TRAIN_SPEC) != job_id(TRAIN_SPEC.model_copy(update={"scenario": "full"}))


def test_a_spec_with_unknown_fields_is_refused() -> None:
    with pytest.raises(JobError, match="cannot be read"):
        parse_spec('{"kind": "train", "surprise": 1}')


def test_passwords_are_not_shown() -> None:
    assert without_password("redis://user:secret@host:1/0") == "redis://host:1/0"


def test_a_field_that_came_later_changes_no_jobs_id_while_it_has_its_default() -> None:
    file = InputFile(path="/in/a.csv", format="csv", compression="none", bytes=3, sha256="0" * 64)
    spec = LabelSpec(
        inputs=(file,),
        text_columns=("text",),
        text_column="text",
        output="/out",
        model="default",
        model_dir="/m",
        model_sha256="1" * 64,
        backbone_sha256="2" * 64,
        tasks=(("topic", ("a", "b")),),
        embedding_size=256,
        shard_rows=10,
        shard_tokens=100,
    )
    train = TRAIN_SPEC.model_copy(update={"output": "/models/m", "scenario": "full"})
    # As the first release made them. A new field belongs into the class' `added`.
    assert (job_id(spec), job_id(train)) == ("label-c823dc45cd85", "train-30196c7780b8")
