"""`docs/quickstart.md` as a reader follows it: every block, in order, in one empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_block_runs(tmp_path):
    blocks = BLOCK.findall(QUICKSTART.read_text(encoding="utf-8"))
    assert {"bash", "python"} == {language for language, _ in blocks}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MINARI_DATASETS_PATH": str(tmp_path / "minari"), "OMP_NUM_THREADS": "1"}
    for language, block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    records = [json.loads(line) for line in (tmp_path / "runs/mine/evaluations.jsonl").read_text().splitlines()]
    assert [record["target"] for record in records] == [None] * 10 + [-1200] * 10 + [-800] * 10 + [-400] * 10
    assert (tmp_path / "comparison/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("language", ["bash", "python"])
def test_no_block_is_passed_over(language):
    text = QUICKSTART.read_text(encoding="utf-8")
    assert text.count("```" + language) == sum(found == language for found, _ in BLOCK.findall(text))
    assert text.count("```") == 2 * len(BLOCK.findall(text))
