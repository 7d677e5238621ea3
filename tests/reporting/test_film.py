"""Films of episodes: what is seen is what was acted, and what was earned stands above it."""

from __future__ import annotations

from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

import foretell
from foretell.core.errors import UsageError
from foretell.evaluation import protocol
from foretell.reporting import film as drawing
from foretell.reporting.film import GAP, LINE, Reel, write_film
from reference.making import small_config

PENDULUM = "Pendulum-v1"


def frames_of(path):
    """Every frame, `(height, width, 3)`, and for how long it is shown, milliseconds."""
    with Image.open(path) as found:
        frames, times = [], []
        for place in range(found.n_frames):
            found.seek(place)
            frames.append(np.asarray(found.convert("RGB")))
            times.append(found.info["duration"])
    return frames, times


def reel(caption, colors, size=(40, 60)):
    made = Reel(caption=caption)
    for place, color in enumerate(colors):
        if made.shows(place) or place == len(colors) - 1:
            made.add(place, np.full((*size, 3), color, np.uint8), -float(place))
    return made


class Lamp(gymnasium.Env):
    """Brighter by one at every timestep, `last` in all; a reward of 1 each. How it is drawn is told to its class."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)
    last = 5
    drawn = staticmethod(lambda light: np.full((20, 30, 3), 20 * light, np.uint8))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.light = 0
        return np.array([0], np.float32), {}

    def step(self, action):
        self.light += 1
        return np.array([min(self.light, 10)], np.float32), 1.0, self.light == self.last, False, {}

    def render(self):
        return type(self).drawn(self.light)


@pytest.fixture
def lamp():
    gymnasium.register("Lamp-v0", entry_point=Lamp)
    yield "Lamp-v0"
    del gymnasium.registry["Lamp-v0"]


def off(observations):
    return np.zeros(len(observations), np.int64)


def test_every_frame_at_its_place_and_time(tmp_path):
    red, blue = [(200, 10 * n, 0) for n in range(4)], [(0, 10 * n, 200) for n in range(2)]
    write_film(tmp_path / "a.gif", [reel("one", red), reel("other", blue)], frames_per_second=20)
    frames, times = frames_of(tmp_path / "a.gif")
    assert times == [50, 50, 50, 1500]
    top, second = GAP + 2 * LINE, frames[0].shape[1] - GAP - 30
    for place, frame in enumerate(frames):
        assert frame[top + 20, GAP + 30].tolist() == pytest.approx(red[place], abs=8)
        assert frame[top + 20, second].tolist() == pytest.approx(blue[min(place, 1)], abs=8), "it stays at its end"
        assert (frame[:GAP] > 250).mean() > 0.9
        assert (frame[GAP:top] < 120).any(), "nothing is written above"
    assert (frames[1][:top] != frames[2][:top]).any(), "what is earned changes"


def test_of_long_episodes_some_frames_are_shown_the_last_among_them(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "LONGEST", 4)
    write_film(tmp_path / "a.gif", [reel("one", [(20 * n, 0, 0) for n in range(12)])], frames_per_second=10)
    frames, times = frames_of(tmp_path / "a.gif")
    assert times == [400, 400, 400, 1500]
    middle = [frame[GAP + 2 * LINE + 20, GAP + 30, 0] for frame in frames]
    assert middle == pytest.approx([0, 80, 160, 220], abs=8)


def test_a_short_episode_beside_a_long_one_stays_at_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "LONGEST", 4)
    long, short = ([(20 * n, 0, 0) for n in range(count)] for count in (12, 4))
    write_film(tmp_path / "a.gif", [reel("one", long), reel("other", short)], frames_per_second=10)
    frames, _ = frames_of(tmp_path / "a.gif")
    for left, light in ((GAP + 30, [0, 80, 160, 220]), (frames[0].shape[1] - GAP - 30, [0, 60, 60, 60])):
        assert [frame[GAP + 2 * LINE + 20, left, 0] for frame in frames] == pytest.approx(light, abs=8)


@pytest.mark.parametrize(("speed", "shown"), [(125, 4), (67, 2), (50, 1), (30, 1)])
def test_a_film_is_as_fast_as_its_environment(tmp_path, speed, shown):
    """Viewers show frames of less than 20 ms for 100; the form knows hundredths of a second alone."""
    write_film(tmp_path / "a.gif", [reel("one", [(n, 0, 0) for n in range(121)])], frames_per_second=speed)
    _, times = frames_of(tmp_path / "a.gif")
    assert len(times) == 120 // shown + 1
    assert min(times) >= 20
    assert sum(times[:-1]) == pytest.approx(120_000 / speed, abs=10)


def test_of_a_long_episode_few_frames_are_drawn_and_kept(lamp, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Lamp, "drawn", staticmethod(lambda light: drawn.append(light) or np.zeros((9, 9, 3), np.uint8)))
    monkeypatch.setattr(Lamp, "last", 1000)
    (episode,) = foretell.film(off, tmp_path / "a.gif", environment=lamp, name="dark")
    assert (episode["return"], episode["length"]) == (1000.0, 1000)
    assert len(drawn) < 510
    assert sum(frames_of(tmp_path / "a.gif")[1][:-1]) == 100_000
    assert len(reel("one", [(0, 0, 0)] * 10_000).frames) < 255


def test_large_frames_become_smaller():
    made = reel("one", [(9, 9, 9)], size=(512, 1024))
    assert made.frames[0].shape == (256, 512, 3)
    assert (made.frames[0] == 9).all()
    frame = np.zeros((10, 10, 3), np.uint8)
    made.add(1, frame, 0.0)
    frame[:] = 1
    assert (made.frames[1] == 0).all(), "an environment may draw into the same array again"


def test_what_is_filmed_is_what_is_evaluated(pendulum_run, tmp_path):
    asked = [-1500.0, -900.0]
    episodes = foretell.film(pendulum_run, tmp_path / "a.gif", target_returns=asked, start=2, root_seed=5)
    records = foretell.evaluate(pendulum_run, target_returns=asked, episodes=3, root_seed=5)
    for episode, record in zip(episodes, records[2::3], strict=True):
        assert (episode["target"], episode["length"], episode["seed"]) == (record["target"], record["length"], 0)
        assert episode["return"] == pytest.approx(record["return"], abs=0.05)
    frames, times = frames_of(tmp_path / "a.gif")
    assert len(frames) == 201
    assert times[0] == 30, "30 frames a second are 33 ms, of which the form knows tens"
    moved = [(one != other)[GAP + 2 * LINE :].any() for one, other in pairwise(frames)]
    assert all(moved)


def test_a_policy_of_one_s_own(lamp, tmp_path):
    (episode,) = foretell.film(off, tmp_path / "a.gif", environment=lamp, name="dark")
    assert episode == {"seed": 0, "target": None, "return": 5.0, "length": 5}
    frames, times = frames_of(tmp_path / "a.gif")
    assert [frame[GAP + 2 * LINE + 10, GAP + 10, 0] for frame in frames] == pytest.approx(range(0, 120, 20), abs=8)
    assert times == [100] * 5 + [1500]


def test_several_seeds_are_beside_each_other(pendulum_random, tmp_path):
    training = foretell.TrainingConfig(updates=2, batch_size=4, warmup_updates=1)
    model = small_config("decision-transformer")
    foretell.train_seeds(pendulum_random, tmp_path / "runs", [3, 4], model=model, training=training)
    episodes = foretell.film(tmp_path / "runs", tmp_path / "a.gif")
    assert [one["seed"] for one in episodes] == [3, 4]
    wide = frames_of(tmp_path / "a.gif")[0][0].shape[1]
    foretell.film(tmp_path / "runs" / "seed-3", tmp_path / "b.gif")
    assert wide > 1.8 * frames_of(tmp_path / "b.gif")[0][0].shape[1]
    with pytest.raises(UsageError, match="10 episodes beside each other; expected 8 at most"):
        foretell.film(tmp_path / "runs", tmp_path / "c.gif", target_returns=[-1500, -1400, -1300, -1200, -1100])


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (lambda light: None, "render gave object of shape"),
        (lambda light: np.zeros((4, 4), np.uint8), "expected uint8 of"),
        (lambda light: np.zeros((4, 4, 3), np.float32), "render gave float32"),
        (lambda light: np.zeros((0, 4, 3), np.uint8), "expected uint8 of"),
        (lambda light: 1 / 0, r"Lamp-v0 cannot be drawn \(division by zero\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(lamp, tmp_path, monkeypatch, drawn, words):
    monkeypatch.setattr(Lamp, "drawn", staticmethod(drawn))
    with pytest.raises(UsageError, match=words):
        foretell.film(off, tmp_path / "a.gif", environment=lamp, name="dark")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_within_an_episode(pendulum_run, lamp, tmp_path):
    told = []

    def progress(done, total, **numbers):
        told.append((done, total, *numbers))

    foretell.film(pendulum_run, tmp_path / "a.gif", target_returns=[-1000, -900], progress=progress)
    last = {200: ("mean_return",), 400: ("mean_return",)}
    assert told == [(done, 400, *last.get(done, ())) for done in range(1, 401)]
    told.clear()
    foretell.film(off, tmp_path / "b.gif", environment=lamp, name="dark", progress=progress)  # without a time limit
    assert told == [(1, 2), (2, 3), (3, 4), (4, 5), (5, 5, "mean_return")]


def test_mujoco_without_a_screen_says_how_it_draws(lamp, tmp_path, monkeypatch):
    monkeypatch.setattr(Lamp, "drawn", staticmethod(lambda light: 1 / 0))
    monkeypatch.setattr(Lamp, "__module__", "gymnasium.envs.mujoco.lamp")
    with pytest.raises(UsageError, match=r"\(division by zero\)\. .*MUJOCO_GL=egl foretell evaluate"):
        foretell.film(off, tmp_path / "a.gif", environment=lamp, name="dark")


def test_environments_that_do_not_draw_are_refused(lamp, tmp_path, monkeypatch):
    monkeypatch.setattr(Lamp, "metadata", {"render_modes": ["human"]})
    with pytest.raises(UsageError, match=r"Lamp-v0 cannot be drawn: .*\['human'\]; expected rgb_array"):
        foretell.film(off, tmp_path / "a.gif", environment=lamp, name="dark")
    monkeypatch.setattr(Lamp, "metadata", {})
    monkeypatch.setattr(Lamp, "__init__", lambda self: None)
    with pytest.raises(UsageError, match=r"Lamp-v0 cannot be drawn: its render_modes are \[\]; expected rgb_array"):
        foretell.film(off, tmp_path / "a.gif", environment=lamp, name="dark")


def test_an_episode_that_does_not_end_is_told_of(lamp, tmp_path, monkeypatch):
    given = {"environment": lamp, "name": "dark"}
    monkeypatch.setattr(protocol, "NO_HORIZON_LIMIT", 3)
    with pytest.raises(
        UsageError, match=r"and its episode had not ended after 3 timesteps\. Name a limit: Lamp-v0,max"
    ):
        foretell.film(off, tmp_path / "a.gif", **given)
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match="its episode had not ended after 4 timesteps"):
        (episode,) = foretell.film(Tired(), tmp_path / "a.gif", **given)
    assert (episode["return"], episode["length"]) == (4.0, 4)


class Tired:
    """Acts for four timesteps."""

    most_timesteps = 4

    def reset(self, num_envs, target_return=None, where=None):
        pass

    def act(self, observations):
        return off(observations)

    def observe(self, rewards):
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "a.png"}, "expected a file name that ends in .gif"),
        ({"start": -1}, "start is -1"),
        ({"target_returns": [float("nan")]}, "finite"),
        ({"environment": "CartPole-v1"}, "the run was trained for"),
        ({"run": off}, "expected both"),
    ],
)
def test_other_arguments_are_refused(pendulum_run, tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        foretell.film(**({"run": pendulum_run, "path": "a.gif"} | changes))
    assert list(tmp_path.iterdir()) == []
