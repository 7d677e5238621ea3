"""What is read is what was written: every digit, every line, in its own place; or it is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os

import pytest

from foretell.core.checksums import checksum, holds, sealed
from foretell.core.errors import CheckpointError, ResourceError
from foretell.core.files import (
    parse_json,
    read_json,
    read_json_lines,
    read_sealed_json,
    resource_errors,
    write_json,
    write_json_lines,
)

RECORDS = [{"update": number, "loss": number / 3} for number in range(1, 6)]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": 1e999}', "too large"),
        ('{"a": -1e999}', "too large"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 1}', "twice"),
        ("[" * 100_000 + "]" * 100_000, "deep"),
        ('{"a": "\\ud800"}', "surrogates"),
        ('"' + "x" * (1 << 20) + '"', "at most 1048576"),
    ],
)
def test_json_that_is_none(text, word, tmp_path):
    with pytest.raises(ValueError, match=word):
        parse_json(text)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text(text + "\n{}\n")
    with pytest.raises(CheckpointError, match=r"a\.jsonl: line 1 is not JSON"):
        read_json_lines(tmp_path / "a.jsonl")


def test_json_that_is_written_is_finite(tmp_path):
    for value in (float("nan"), [float("inf")]):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", value)
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("foretell.core.files.read_bytes", lambda path: pytest.fail("it was read"))
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(CheckpointError, match="1048577 bytes; expected at most 1048576"):
        read_json(tmp_path / "a.json")


def test_a_pair_of_surrogates_is_a_character():
    assert parse_json('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_the_checksum_is_of_the_canonical_rest():
    value = {"b": [1, 2.5], "a": None}
    assert checksum(value) == hashlib.sha256(b'[{"a":null,"b":[1,2.5]}]').hexdigest()[:16]
    assert sealed(value) == {**value, "checksum": checksum(value)}
    assert sealed(sealed(value)) == sealed(value)
    assert holds({"checksum": checksum(value), "a": None, "b": [1, 2.5]})
    for other in (
        {**sealed(value), "a": 0},
        {**sealed(value), "b": [1, 2.50001]},
        {**sealed(value), "c": 0},
        value,
        [],
    ):
        assert not holds(other)
    assert not holds(sealed(value, "run"), "another")


def test_a_sealed_object_may_be_laid_out_anew_and_not_changed(tmp_path):
    path = tmp_path / "config.json"
    write_json(path, sealed({"seed": 1, "width": 8}))
    found = read_sealed_json(path)
    assert (found["seed"], found["width"]) == (1, 8)
    path.write_text(json.dumps(dict(reversed(found.items())), indent=7))
    assert read_sealed_json(path) == found
    path.write_text(json.dumps({**found, "seed": 2}))
    with pytest.raises(CheckpointError, match=r"config\.json.*checksum"):
        read_sealed_json(path)


@pytest.mark.parametrize("growing", [False, True])
def test_lines_come_back_without_their_checksums(tmp_path, growing):
    path = tmp_path / "a.jsonl"
    write_json_lines(path, RECORDS, growing=growing)
    assert read_json_lines(path) == RECORDS
    assert read_json_lines(path, first=2) == RECORDS[:2]
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [r["loss"] for r in RECORDS]


def _edited(lines):
    return [lines[0], lines[1].replace("2", "3", 1), *lines[2:]]


DAMAGES = {
    "a changed digit": _edited, "lines in another order": lambda lines: [lines[1], lines[0], *lines[2:]],
    "a line twice": lambda lines: [lines[0], *lines], "the first line gone": lambda lines: lines[1:],
    "a line within gone": lambda lines: [*lines[:2], *lines[3:]],
    "a line that nobody sealed": lambda lines: [lines[0], '{"update": 2}\n', *lines[2:]],
    "a broken key of a checksum": lambda lines: [lines[0].replace("checksum", "checksun"), *lines[1:]],
    "a last line with more behind it": lambda lines: [*lines[:-1], lines[-1][:-1] + "\0"],
}  # fmt: skip


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
def test_lines_that_are_not_as_they_were_written_are_refused(tmp_path, damage, growing):
    path = tmp_path / "a.jsonl"
    write_json_lines(path, RECORDS, growing=growing)
    path.write_text("".join(DAMAGES[damage](path.read_text().splitlines(keepends=True))))
    with pytest.raises(CheckpointError, match=r"a\.jsonl"):
        read_json_lines(path)


def test_a_complete_file_does_not_end_early_and_a_growing_one_may(tmp_path):
    path = tmp_path / "a.jsonl"
    for growing in (False, True):
        write_json_lines(path, RECORDS, growing=growing)
        content = path.read_bytes()
        line_ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
        for cut in (line_ends[3], line_ends[3] + 20):  # between two lines, and within one
            path.write_bytes(content[:cut])
            if growing:
                assert read_json_lines(path) == RECORDS[:4]
            else:
                with pytest.raises(CheckpointError, match="line 1"):
                    read_json_lines(path)


def test_the_first_lines_can_be_read_where_later_ones_are_damaged(tmp_path):
    path = tmp_path / "a.jsonl"
    write_json_lines(path, RECORDS, growing=True)
    path.write_bytes(path.read_bytes()[:-30] + bytes(30) + b"\n" + bytes(5))
    assert read_json_lines(path, first=4) == RECORDS[:4]
    with pytest.raises(CheckpointError, match="line 5"):
        read_json_lines(path, first=5)


def test_lines_of_a_run_are_its_own(tmp_path):
    for name in ("one", "other"):
        write_json(tmp_path / name / "config.json", sealed({"name": name}))
        write_json_lines(tmp_path / name / "events.jsonl", RECORDS)
    assert read_json_lines(tmp_path / "one" / "events.jsonl") == RECORDS
    os.replace(tmp_path / "other" / "events.jsonl", tmp_path / "one" / "events.jsonl")
    with pytest.raises(CheckpointError, match="another run's"):
        read_json_lines(tmp_path / "one" / "events.jsonl")


def test_no_lines_are_not_an_empty_file(tmp_path):
    path = tmp_path / "a.jsonl"
    write_json_lines(path, [])
    assert path.read_bytes() == b"\n"
    assert read_json_lines(path) == []
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_json_lines(path)


def test_lines_by_another_program_are_taken_as_they_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"return": 1.5}\n\n{"return": 2}\n{"ret')
    assert read_json_lines(tmp_path / "a.jsonl") == [{"return": 1.5}, {"return": 2}]


def test_a_pipe_is_not_waited_for(tmp_path):
    for name in ("a.json", "a.jsonl"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="regular file"):
        read_json(tmp_path / "a.json")
    with pytest.raises(CheckpointError, match="regular file"):
        read_json_lines(tmp_path / "a.jsonl")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINVAL, errno.EBADF])
def test_every_error_of_the_disk_is_named_with_its_path(tmp_path, number):
    with pytest.raises(ResourceError, match="model") as caught, resource_errors(tmp_path / "model"):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(caught.value)
