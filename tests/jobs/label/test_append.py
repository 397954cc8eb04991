"""`mtl label --append`: what is new joins an output as a generation; all real but the engine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from made_jobs import MadeJobs
from s3_server import S3Server

from jobs.cli.group import main
from jobs.cli.shared.summary import print_result
from jobs.label import join as joining
from jobs.label.append import NothingNew
from jobs.label.finalise import finalise
from jobs.label.known import OTHER_TEXT
from jobs.label.relabel import prepare_relabel
from jobs.label.request import LabelJob
from jobs.label.verify_input import verify_input
from jobs.ledger.lifecycle import JobState
from jobs.output.collect import collect
from jobs.output.layout import read_manifest
from jobs.output.verify import verify
from mtl_core.errors import InputError, OutputError
from mtl_core.storage.address import place_of
from mtl_core.storage.folder import Folder


@pytest.fixture
def jobs(redis_url: str, tmp_path: Path) -> Iterator[MadeJobs]:
    made = MadeJobs(redis_url, tmp_path)
    yield made
    made.close()


def csv(path: Path, ids: range, **changes: str) -> Path:
    """Rows with an id; ``n7="other text"`` changes the text of one."""
    texts = [changes.get(f"n{number}", f"sentence number {number}") for number in ids]
    frame = pd.DataFrame({"id": [f"n{number}" for number in ids], "text": texts})
    frame.to_csv(path, index=False)
    return path


def week(folder: Path, number: int, rows: int = 10) -> Path:
    return csv(folder / f"w{number}.csv", range(number * rows, (number + 1) * rows))


def rows(output: Path) -> pd.DataFrame:
    """What a reader that knows nothing of us finds, in the order of the rows."""
    return pd.read_parquet(output).sort_values("row_id", ignore_index=True)


def content(output: Path) -> dict[str, bytes]:
    return {str(p.relative_to(output)): p.read_bytes() for p in output.rglob("*") if p.is_file()}


def done(job: LabelJob | NothingNew) -> LabelJob:
    assert isinstance(job, LabelJob)
    return job


def test_new_files_become_a_generation_and_known_ones_are_skipped(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out, files = tmp_path / "out", [week(tmp_path, number) for number in range(3)]
    jobs.append(files[0])  # the first week's command makes the output
    before = content(out)
    shutil.copy(files[0], tmp_path / "copy of w0.csv")
    job = done(jobs.append(tmp_path / "copy of w0.csv", *files))
    assert (job.spec.skipped_files, job.spec.generation, job.spec.first_row_id) == (2, 2, 10)
    assert jobs.ledger.state(job.id) is JobState.DONE
    found = rows(out)
    assert found["row_id"].tolist() == list(range(30))
    assert found["id"].tolist() == [f"n{number}" for number in range(30)]
    assert not (out / "_append").exists()
    parts = {name for name in before if name.startswith("part-")}
    assert parts <= set(content(out))
    assert all(content(out)[name] == before[name] for name in parts)
    manifest = read_manifest(Folder(out))
    assert [(g.number, g.rows.total, g.first_row_id) for g in manifest.generations] == [
        (1, 10, 0),
        (2, 20, 10),
    ]
    assert [file.path for file in manifest.inputs] == [str(file) for file in files]
    assert "generation" not in json.loads((out / "_manifest.json").read_text())["parts"][0]
    assert verify(Folder(out))[1] == verify(Folder(out), 2)[1] == []
    assert verify(Folder(out), 2)[0]["total"] == 20
    assert verify_input(Folder(out)) == verify_input(Folder(out), generation=2) == []
    assert "In 2 generations" in (out / "_README.md").read_text()


def test_nothing_new_writes_nothing(jobs: MadeJobs, tmp_path: Path) -> None:
    jobs.label(week(tmp_path, 0))
    before = content(tmp_path / "out")
    assert jobs.append(week(tmp_path, 0)) == NothingNew(Folder(tmp_path / "out"), 1, 0)
    grown = csv(tmp_path / "again.csv", range(3, 9))
    assert jobs.append(grown, id_column="id") == NothingNew(Folder(tmp_path / "out"), 0, 6)
    assert content(tmp_path / "out") == before


def test_rows_are_known_by_their_id_and_another_text_is_an_error(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out = Folder(tmp_path / "out")
    jobs.append(csv(tmp_path / "a.csv", range(10)), id_column="id")
    grown = csv(tmp_path / "b.csv", range(15), n4="something else", n12=" ")
    job = done(jobs.append(grown, id_column="id"))
    assert job.spec.skipped_rows == 9
    assert any("already, with another text: 1" in note for note in job.notes)
    found = rows(out.path)
    assert found["id"].tolist() == [f"n{n}" for n in (*range(10), 10, 11, 13, 14)]
    assert found["row_id"].tolist() == [*range(10), 11, 12, 14, 15]
    errors = pd.read_parquet(out.path / "errors/_rows-g0002-input.parquet")
    assert errors[["row_id", "row"]].values.tolist() == [[10, 5], [13, 13]]
    assert errors["reason"][0] == OTHER_TEXT
    assert errors["text"][0] == "something else"
    assert verify(out)[1] == []
    assert verify_input(out) == []
    assert verify_input(out, generation=2) == []
    # the same file again is known as a whole
    assert isinstance(jobs.append(grown, id_column="id"), NothingNew)


def test_one_generation_is_read_alone(jobs: MadeJobs, tmp_path: Path) -> None:
    out = Folder(tmp_path / "out")
    for number in range(3):
        jobs.append(week(tmp_path, number))
    for generation, first in ((1, 0), (2, 10), (3, 20)):
        target = tmp_path / f"g{generation}.parquet"
        assert collect(out, target, overwrite=False, generation=generation)[0] == 10
        assert pd.read_parquet(target)["row_id"].tolist() == list(range(first, first + 10))
    assert collect(out, tmp_path / "all.parquet", overwrite=False)[0] == 30
    with pytest.raises(InputError, match="out: there is no generation 4; there are 1 to 3"):
        read_manifest(out, 4)


def mtl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_every_look_at_an_output_takes_one_generation_or_all(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for number in range(2):
        jobs.append(week(tmp_path, number))
    both, second = mtl("show", out, "--json", "-n", 50), mtl("show", out, "--generation", 2)
    assert [row["row_id"] for row in json.loads(both.stdout)] == list(range(20))
    assert "sentence number 10" in second.stdout
    assert "sentence number 9" not in second.stdout
    told = mtl("verify", out, "--generation", 2).stdout
    assert "out, generation 2: ok; 10 input rows = 10 labelled + 0 error rows" in told
    for options, looked in (((), 20), (("--generation", 1), 10)):
        found = mtl("duplicates", out, "--json", *options)
        assert json.loads(found.stdout)["rows"] == looked
        assert mtl("report", out, "-o", tmp_path / f"{looked}.html", *options).exit_code == 0
        assert f"{looked} rows labelled" in (tmp_path / f"{looked}.html").read_text()
        near = mtl("search", out, "--like", 3, "-k", 50, "--json", *options)
        hits = [hit["row"]["row_id"] for hit in json.loads(near.stdout)[0]["hits"]]
        assert sorted([3, *hits]) == list(range(looked))
        mtl("collect", out, "-o", tmp_path / f"{looked}.csv", *options)
        assert len(pd.read_csv(tmp_path / f"{looked}.csv")) == looked
    refused = mtl("show", out, "--generation", 3)
    assert "there is no generation 3; there are 1 to 2" in refused.output


def test_what_was_appended_and_what_was_skipped_is_said(
    jobs: MadeJobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    jobs.append(csv(tmp_path / "a.csv", range(10)), id_column="id")
    job = done(jobs.append(tmp_path / "a.csv", csv(tmp_path / "b.csv", range(15)), id_column="id"))
    print_result(job, as_json=False)
    said = capsys.readouterr().out
    assert "5 of 5 rows labelled" in said
    assert (
        f"generation 2 of {out}, its rows from row_id 10; skipped, as it holds them: 1 file and "
        "10 rows of new files\n" in said
    )
    assert f"output: {out}\n" in said
    print_result(job, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["skipped"] == {"files": 1, "rows": 10}
    assert (told["generation"], told["output"]) == (2, str(out))
    command = ("label", tmp_path / "a.csv", tmp_path / "b.csv", "-o", out, "--append")
    again = mtl(*command, "--id-column", "id")
    assert (again.exit_code, again.stdout) == (0, f"nothing new: {out} holds 2 files already\n")
    assert json.loads(mtl(*command, "--id-column", "id", "--json").stdout) == {
        "id": None,
        "output": str(out),
        "skipped": {"files": 2, "rows": 0},
    }
    assert "--append takes whole files" in mtl(*command, "--limit", "3").output


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "fast"}, r"model 'default', not by 'fast'; relabel first: `mtl relabel \S+out "),
        ({"only": ("topic",)}, "another --only; give the options .* relabel first"),
        ({"embedding": "int8"}, "another --embedding; give .* or label all files again into a new"),
        ({"top": 2}, "another --top"),
        ({"abstain_below": 0.9}, "another --abstain-below"),
        ({"min_typicality": 0.1}, "another --min-typicality"),
        ({"precision": "int8"}, "another --precision"),
        ({"id_column": "number"}, "no id column 'number'"),
        ({"text_columns": ("id",)}, "the text is column 'id', that of .*out 'text'"),
    ],
)
def test_what_would_be_labelled_in_another_way_is_refused(
    asked: dict[str, Any], said: str, jobs: MadeJobs, tmp_path: Path
) -> None:
    jobs.label(week(tmp_path, 0))
    before = content(tmp_path / "out")
    with pytest.raises((InputError, OutputError), match=said) as refused:
        jobs.append(week(tmp_path, 1), **asked)
    assert "\n" not in str(refused.value)
    assert content(tmp_path / "out") == before


def test_another_number_of_most_probable_labels_is_refused_too(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    jobs.label(week(tmp_path, 0), top=2)
    with pytest.raises(OutputError, match="another --top"):
        jobs.append(week(tmp_path, 1), top=3)
    done(jobs.append(week(tmp_path, 1), top=2))


def test_an_output_that_cannot_be_appended_to_is_told(jobs: MadeJobs, tmp_path: Path) -> None:
    new = week(tmp_path, 1)
    jobs.label(week(tmp_path, 0), output="some", limit=3)
    with pytest.raises(InputError, match=r"some holds the first 3 rows of its input only"):
        jobs.append(new, output="some")
    jobs.label(week(tmp_path, 0), output="ids", id_column="id")
    with pytest.raises(InputError, match="ids was made with --id-column id; append with the same"):
        jobs.append(new, output="ids")
    jobs.label(week(tmp_path, 0))
    twice = pd.DataFrame({"id": ["a", "a"], "text": ["one text", "two texts"]})
    twice.to_csv(tmp_path / "twice.csv", index=False)
    jobs.label(tmp_path / "twice.csv", output="twice")
    with pytest.raises(InputError, match="column 'id' has a value twice"):
        jobs.append(new, output="twice", id_column="id")
    pd.DataFrame({"text": ["a text"], "more": ["x"]}).to_csv(tmp_path / "more.csv", index=False)
    with pytest.raises(InputError, match=r"more.csv: .*out has no column 'more'; leave it out"):
        jobs.append(tmp_path / "more.csv")
    (tmp_path / "out" / "_SUCCESS").unlink()
    with pytest.raises(InputError, match="out holds no finished output"):
        jobs.append(new)


def test_columns_come_in_the_outputs_types_and_missing_ones_stay_empty(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    first = pd.DataFrame({"text": ["one text", "two texts"], "price": [0.5, 1.5], "n": [1, 2]})
    first.to_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"price": [2], "text": ["three"]}).to_parquet(tmp_path / "b.parquet")
    pd.DataFrame({"text": ["four"], "n": [0.5]}).to_parquet(tmp_path / "c.parquet")
    jobs.label(tmp_path / "a.parquet")
    job = done(jobs.append(tmp_path / "b.parquet"))
    assert any("stay empty: 'n'" in note for note in job.notes)
    found = rows(tmp_path / "out")
    assert found["price"].tolist() == [0.5, 1.5, 2.0]
    assert found["n"].isna().tolist() == [False, False, True]
    with pytest.raises(InputError, match=r"column 'n' is double, in \S+out it is int64"):
        jobs.append(tmp_path / "c.parquet")


def test_a_stopped_append_goes_on_by_the_same_command_or_by_retry(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out = Folder(tmp_path / "out")
    jobs.append(csv(tmp_path / "a.csv", range(10)), id_column="id")
    grown = csv(tmp_path / "b.csv", range(30), n5="another text")
    job = done(jobs.prepare(grown, id_column="id"))
    jobs.submit(job)
    jobs.do(job, jobs.waiting(job)[0])
    before = {path.name for path in (out.path / "_append").glob("part-*")}
    jobs.ledger.transition(job.id, JobState.CANCELLING)
    jobs.ledger.transition(job.id, JobState.CANCELLED)
    assert verify(out)[1] == []
    again = done(jobs.prepare(grown, id_column="id"))
    assert again.id == job.id
    jobs.retry(again)
    assert {name.replace("part-", "part-g0002-") for name in before} <= set(out.names())
    assert rows(out.path)["id"].tolist() == [f"n{number}" for number in range(30)]
    assert (read_manifest(out).rows.errors, verify(out)[1], verify_input(out)) == (1, [], [])


def test_two_appends_at_once_meet_at_one_folder(jobs: MadeJobs, tmp_path: Path) -> None:
    jobs.label(week(tmp_path, 0))
    first, second = (done(jobs.prepare(week(tmp_path, number))) for number in (1, 2))
    jobs.submit(first)
    with pytest.raises(OutputError, match=f"out is being appended to by {first.id}") as told:
        jobs.submit(second)
    assert f"mtl retry {first.id}" in str(told.value)
    jobs.work(first)
    finalise(jobs.ledger, first.id)
    # it was prepared before the first one joined: its numbers are taken
    with pytest.raises(OutputError, match="out was appended to just now; repeat the command"):
        jobs.submit(second)
    assert not (tmp_path / "out" / "_append").exists()
    jobs.append(week(tmp_path, 2))
    assert rows(tmp_path / "out")["id"].tolist() == [f"n{number}" for number in range(30)]


class KilledError(Exception):
    """Stands for a SIGKILL."""


# By the calls that the join makes: parts copied, the manifest, the README, files removed.
POINTS = [("copy", 0), ("copy", 2), ("write_text", 0)]
COMMITTED = [("write_text", 1), ("delete", 0), ("delete", 1), ("delete", 2)]


@pytest.mark.parametrize(("step", "call"), [*POINTS, *COMMITTED])
def test_killed_at_any_step_of_the_join_the_output_is_the_old_or_the_new_one(
    step: str, call: int, jobs: MadeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Folder(tmp_path / "out")
    job = killed(step, call, jobs, tmp_path, monkeypatch)
    assert read_manifest(out).last_generation == (2 if (step, call) in COMMITTED else 1)
    assert verify(out)[1] == []
    assert finalise(jobs.ledger, job.id)  # by another worker
    assert rows(out.path)["id"].tolist() == [f"n{number}" for number in range(20)]
    assert (read_manifest(out).last_generation, verify(out)[1]) == (2, [])
    assert not (out.path / "_append").exists()


@pytest.mark.parametrize(("step", "call"), [("write_text", 1), ("delete", 2)])
def test_the_next_append_need_not_wait_for_one_that_was_killed_when_it_had_joined(
    step: str, call: int, jobs: MadeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = killed(step, call, jobs, tmp_path, monkeypatch)
    jobs.append(week(tmp_path, 2))
    assert finalise(jobs.ledger, job.id)  # late, and it finds all done
    assert rows(tmp_path / "out")["id"].tolist() == [f"n{number}" for number in range(30)]
    assert verify(Folder(tmp_path / "out"))[1] == []


def test_what_an_append_that_was_given_up_had_copied_is_removed_by_the_next(
    jobs: MadeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Folder(tmp_path / "out")
    killed("copy", 2, jobs, tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "out" / "_append")
    foreign = out.path / "part-g0002-mine.parquet"
    pd.DataFrame({"text": ["none of ours"]}).to_parquet(foreign)
    copied = {p.name for p in out.path.glob("part-g0002-0*")}
    assert len(copied) == 2
    half = out.path / ".part-g0002-00003-a1-0a1b2c3d.parquet.0f0f0f0f0f0f.tmp"
    half.write_bytes(b"half")
    assert {problem.split(" ")[0] for problem in verify(out)[1]} == {*copied, foreign.name}
    jobs.append(week(tmp_path, 2))
    assert not half.exists()
    foreign.rename(tmp_path / "moved")  # which is left where it is: it bears no job's mark
    assert rows(out.path)["id"].tolist() == [f"n{n}" for n in (*range(10), *range(20, 30))]
    assert verify(out)[1] == []


def killed(
    step: str, call: int, jobs: MadeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LabelJob:
    """An append that was killed as it joined, at a call of a method of the folder."""
    jobs.label(week(tmp_path, 0))
    job = done(jobs.prepare(week(tmp_path, 1)))
    jobs.submit(job)
    jobs.work(job)
    original, whole, calls = getattr(Folder, step), joining.join, list[int]()

    def join(*arguments: Any) -> None:
        calls.append(call)
        whole(*arguments)

    def dies(self: Folder, *arguments: Any) -> None:
        if calls and not calls[0]:
            raise KilledError
        if calls:
            calls[0] -= 1
        original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr("jobs.label.finalise.join", join)
        patched.setattr(Folder, step, dies)
        with pytest.raises(KilledError):
            finalise(jobs.ledger, job.id)
    return job


def test_a_partial_append_is_seen_and_its_rows_can_be_tried_again(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out = Folder(tmp_path / "out")
    jobs.label(week(tmp_path, 0))
    jobs.poison = {"sentence number 13"}
    job = done(jobs.append(week(tmp_path, 1)))
    assert jobs.ledger.state(job.id) is JobState.PARTIAL
    assert (read_manifest(out).state, read_manifest(out).rows.errors) == ("partial", 1)
    assert verify(out)[1] == []
    (first,) = (out.path / "errors").iterdir()
    jobs.reason = "it broke again"
    jobs.retry(job)
    assert jobs.ledger.state(job.id) is JobState.PARTIAL
    (second,) = (out.path / "errors").iterdir()
    assert first.name != second.name  # what is listed is never replaced by something else
    assert pd.read_parquet(second)["reason"].tolist() == ["it broke again"]
    assert verify(out)[1] == []
    jobs.poison = set()
    jobs.retry(job)
    assert jobs.ledger.state(job.id) is JobState.DONE
    assert rows(out.path)["id"].tolist() == [f"n{number}" for number in range(20)]
    assert (read_manifest(out).state, verify(out)[1]) == ("done", [])
    assert not (out.path / "_append").exists()
    assert not list((out.path / "errors").glob("*"))


def test_the_next_append_ends_the_time_in_which_a_partial_one_can_be_retried(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    out = Folder(tmp_path / "out")
    jobs.poison = {"sentence number 3", "sentence number 13"}
    first = jobs.label(week(tmp_path, 0))
    second = done(jobs.append(week(tmp_path, 1)))
    third = done(jobs.append(week(tmp_path, 2)))
    assert any(f"{second.id} ended partial: from now on" in note for note in third.notes)
    jobs.poison = set()
    for job in (first, second):
        with pytest.raises(OutputError, match=f"appended to since {job.id} ended"):
            jobs.retry(job)
    assert (read_manifest(out).rows.labelled, read_manifest(out).rows.errors) == (28, 2)
    assert verify(out)[1] == []
    assert not (out.path / "_work").exists()


def test_an_output_labelled_anew_is_one_generation_and_can_be_appended_to(
    jobs: MadeJobs, tmp_path: Path
) -> None:
    for number in range(2):
        jobs.append(week(tmp_path, number), id_column="id")
    request = jobs.request(output="out2")
    anew = prepare_relabel(Folder(tmp_path / "out"), request, jobs.settings)
    jobs.run(anew)
    manifest = read_manifest(Folder(tmp_path / "out2"))
    assert (manifest.generations, manifest.rows.labelled) == ((), 20)
    grown = csv(tmp_path / "grown.csv", range(15, 23))
    job = done(jobs.append(week(tmp_path, 0), grown, output="out2", id_column="id"))
    assert (job.spec.skipped_files, job.spec.skipped_rows) == (1, 5)
    assert rows(tmp_path / "out2")["id"].tolist() == [f"n{number}" for number in range(23)]
    assert verify(Folder(tmp_path / "out2"))[1] == []


def test_an_append_to_a_store_joins_there(jobs: MadeJobs, tmp_path: Path, s3: S3Server) -> None:
    out = f"{s3.address}/out"
    for number in range(2):
        jobs.append(week(tmp_path, number), output=out)
    place = place_of(out)
    assert verify(place)[0] == {"total": 20, "labelled": 20, "errors": 0, "parts": 6}
    assert verify(place)[1] == []
    assert place.folders() == []
    assert isinstance(jobs.append(week(tmp_path, 1), output=out), NothingNew)
