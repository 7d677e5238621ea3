"""`foretell evaluate --film`."""

from __future__ import annotations

import json

from cli_helpers import contents
from PIL import Image


def test_a_film_beside_the_records(foretell, run_copy, tmp_path):
    flags = ("evaluate", run_copy, "--episodes", 2, "--target-returns", -1500, -900, "--film", "film.gif")
    said = json.loads(foretell(*flags, "--json").out)
    assert said["film"] == "film.gif"
    assert [one["target"] for one in said["filmed"]] == [-1500, -900]
    with Image.open(tmp_path / "film.gif") as found:
        assert found.n_frames == 201
    assert (run_copy / "evaluations.jsonl").exists()
    assert "film: film.gif" in foretell(*flags).out


def test_without_one_nothing_is_said_of_it(foretell, run_copy):
    assert "film" not in json.loads(foretell("evaluate", run_copy, "--episodes", 1, "--json").out)


def test_what_cannot_be_filmed_is_not_evaluated_either(foretell, run_copy, tmp_path):
    before = contents(tmp_path)
    foretell("evaluate", run_copy, "--film", "film.mp4").refusal(2, "--film film.mp4", "ends in .gif")
    many = [str(-1000 - place) for place in range(9)]
    foretell("evaluate", run_copy, "--target-returns", *many, "--film", "a.gif").refusal(2, "expected 8 at most")
    assert contents(tmp_path) == before
