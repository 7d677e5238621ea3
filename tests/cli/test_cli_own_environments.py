"""Environments that a module of one's own registers, from data to evaluation; and what is said of others' actions."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import gymnasium
import h5py
import numpy as np
import pytest
from cli_helpers import SMALL

MODULE = """
import gymnasium
import numpy as np
from gymnasium import spaces


class Car(gymnasium.Env):
    observation_space = spaces.Box(-9.0, 9.0, (2,), np.float32)
    action_space = spaces.Box(np.float32([-1.0, 0.5]), np.float32([3.0, 0.9]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.time = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        return self.state, {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.state, self.time = np.clip(self.state + 0.1 * action, -9, 9).astype(np.float32), self.time + 1
        return self.state, float(-abs(self.state).sum()), self.time == 12, False, {}


gymnasium.register("OwnCar-v0", Car, max_episode_steps=12)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module in the folder that the command line works in."""
    name = "own_car_of_a_test"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.setenv("FORETELL_MODULES", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)
    gymnasium.registry.pop("OwnCar-v0", None)


def test_a_module_of_ones_own_is_imported_where_it_is_named(foretell, tmp_path, module):
    answer = foretell("collect", "random", "--environment", f"{module}:OwnCar-v0", "--steps", 60, "--out", "car.hdf5")
    assert answer.code == 0, answer.err
    with h5py.File(tmp_path / "car.hdf5") as file:
        assert np.asarray(file["terminals"]).sum() == 5
        assert not np.asarray(file["timeouts"]).any(), "it ended at its time limit: that is one end, not two"
    assert os.environ["FORETELL_MODULES"] == module, "workers are to import it as well"
    assert foretell("train", "car.hdf5", "--out", "run", *SMALL).code == 0
    answer = foretell("evaluate", "run", "--episodes", 3, "--json")
    assert json.loads(answer.out)["evaluations"][0]["episodes"] == 3


def test_the_command_to_go_on_with_names_the_module(foretell, tmp_path, module):
    words = ("--environment", f"{module}:OwnCar-v0", "--steps", 20)
    said = foretell("collect", "random", *words, "--out", "a file.hdf5").out.strip()
    assert said.endswith(f"Next: FORETELL_MODULES={module} foretell inspect 'a file.hdf5'")


def test_the_variable_names_modules_for_what_data_and_runs_name(foretell, tmp_path, module, monkeypatch):
    assert foretell("collect", "random", "--environment", "OwnCar-v0", "--out", "x.hdf5").refusal(2, "module:Id")
    monkeypatch.setenv("FORETELL_MODULES", f"json, {module},")
    assert foretell("collect", "random", "--environment", "OwnCar-v0", "--steps", 24, "--out", "x.hdf5").code == 0
    monkeypatch.setenv("FORETELL_MODULES", "no_such_module")
    foretell("inspect", "x.hdf5").refusal(2, "no_such_module", "cannot be imported")


def test_a_module_that_fails_is_one_sentence(foretell, tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('no licence\\nfound')")
    found = foretell("collect", "random", "--environment", f"{module}:A-v0", "--out", "x.hdf5")
    found.refusal(2, module, "RuntimeError: no licence")


def _without(source, target, *names):
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
            if name not in names:
                new[name] = np.asarray(old[name])


def test_a_run_that_acts_beyond_the_environments_actions_is_refused(foretell, data, tmp_path):
    with h5py.File(data) as file:
        columns = {
            name: np.asarray(file[name]) for name in ("observations", "actions", "rewards", "terminals", "timeouts")
        }
    for name, factor, code in (("within", 1.0, 0), ("beyond", 1.5, 2)):
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            for column, values in columns.items():
                file[column] = values * np.float32(factor) if column == "actions" else values
        assert foretell("train", f"{name}.hdf5", "--out", name, *SMALL).code == 0
        answer = foretell("evaluate", name, "--environment", "Pendulum-v1", "--episodes", 2)
        assert answer.code == code, answer.err
    answer.refusal(2, "the run acts from", "Pendulum-v1 takes actions from [-2.0] to [2.0]", "--environment")


def test_the_environment_that_is_named_says_the_time_limit(foretell, data, tmp_path):
    _without(data, tmp_path / "bare.hdf5", "timeouts", "next_observations")
    foretell("inspect", "bare.hdf5").refusal(3, "--horizon N", "--environment")
    answer = foretell("inspect", "bare.hdf5", "--environment", "Pendulum-v1", "--json")
    assert json.loads(answer.out)["episodes"] == 10
    assert foretell("train", "bare.hdf5", "--out", "run", "--environment", "Pendulum-v1", *SMALL).code == 0


def test_a_run_that_has_not_finished_says_so(foretell, data, tmp_path):
    assert foretell("train", "pendulum.hdf5", "--out", "run", *SMALL).code == 0
    (tmp_path / "run" / "model.safetensors").unlink()
    foretell("evaluate", "run").refusal(4, "model.safetensors", "has not finished", "goes on")


def test_a_target_named_twice_is_asked_for_once(foretell, data):
    assert foretell("train", "pendulum.hdf5", "--out", "run", *SMALL).code == 0
    answer = foretell("evaluate", "run", "--episodes", 2, "--target-returns", -900, -900.0, -500, "--json")
    assert [one["episodes"] for one in json.loads(answer.out)["evaluations"]] == [2, 2]


NOISY = MODULE.replace(
    "import gymnasium\n",
    "import atexit\nimport os\n\nimport gymnasium\n\n"
    "atexit.register(print, 'farewell')\nprint('welcome')\nos.write(1, b'from C\\n')\n",
    1,
).replace("super().reset(seed=seed)", "super().reset(seed=seed)\n        print('it begins')\n        os.write(1, b'C')")


def test_what_a_simulator_prints_is_no_part_of_json(tmp_path, module):
    (tmp_path / f"{module}.py").write_text(NOISY)
    words = f"-m foretell evaluate random --environment {module}:OwnCar-v0 --episodes 2 --out r.jsonl --json".split()
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["records"]
    for said in ("welcome", "from C", "it begins", "farewell"):
        assert said in done.stderr


def test_a_longer_time_limit_than_the_run_was_trained_for_is_said_at_once(foretell, data, tmp_path):
    assert foretell("train", data, "--out", "run", *SMALL).code == 0
    gymnasium.register("LongPendulum-v0", "gymnasium.envs.classic_control.pendulum:PendulumEnv", max_episode_steps=300)
    try:
        answer = foretell("evaluate", "run", "--environment", "LongPendulum-v0", "--episodes", 2)
    finally:
        del gymnasium.registry["LongPendulum-v0"]
    assert answer.code == 2
    first, *_, last = [line for line in answer.err.splitlines() if line.startswith("foretell: ")]
    assert "LongPendulum-v0 stops after 300 timesteps; the run was trained for episodes of 200" in first
    assert "timestep 200: the run was trained for episodes of 200 timesteps" in last


@pytest.mark.parametrize("stream", [1, 2])
def test_json_of_who_has_closed_an_output(data, stream):
    code = "import os, sys; os.close(int(sys.argv.pop(1))); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    words = [sys.executable, "-c", code, str(stream), "-m", "foretell", "inspect", str(data), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "" if stream == 1 else json.loads(done.stdout)["steps"]


def test_help_beside_json_is_help(data):
    words = (sys.executable, "-m", "foretell", "inspect", str(data), "--json", "--help")
    assert "usage: foretell inspect" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_an_output_that_is_full_is_said_with_json_too(data):
    words = (sys.executable, "-m", "foretell", "inspect", str(data), "--json")
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 6
    assert "No space left" in done.stderr
