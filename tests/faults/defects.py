"""Defects of data: what single numbers, columns and files can have. Those of episodes: `episode_defects.py`."""

from __future__ import annotations

import numpy as np

from faults.defect_cases import CATALOGUE, ERROR, WARNING, cartpole, defect
from faults.defect_forms import Recording

__all__ = ["CATALOGUE"]
DERIVED = "Minari keeps no next_observations of their own"
NAMELESS = "what the environment takes is not known where none is named"
NO_EXTRAS = "Minari keeps no arrays beside its own"


def _file(folder):
    return next(path for path in (folder / "data.hdf5", *folder.rglob("main_data.hdf5")) if path.exists())


# Numbers that are none, or too large


@defect(ERROR, "rewards", "nan", "episode 3, timestep 17")
def nan_in_a_reward(r: Recording):
    r.columns["rewards"][617] = np.nan


@defect(ERROR, "observations", "inf", "episode 2, timestep 17")
def infinity_in_an_observation(r: Recording):
    r.columns["observations"][417, 1] = np.inf


@defect(ERROR, "actions", "nan", "episode 5, timestep 199")
def nan_in_an_action(r: Recording):
    r.columns["actions"][1199] = np.nan


@defect(ERROR, "next_observations", "-inf", "episode 0, timestep 199")
def infinity_in_a_final_observation(r: Recording):
    r.columns["next_observations"][199] = -np.inf


@defect(WARNING, "infos/qpos", "nan", "episode 1, timestep 3", minari=None, blind=NO_EXTRAS)
def nan_in_an_info(r: Recording):
    r.columns["infos/qpos"] = np.where(np.arange(1200) == 203, np.nan, 1.0)


@defect(ERROR, "rewards", "inf", "episode 1, timestep 5", "float32")
def a_float64_beyond_float32(r: Recording):
    r.columns["rewards"] = r.columns["rewards"].astype(np.float64)
    r.columns["rewards"][205] = 1e300


@defect(ERROR, "observations", "1e+30", "episode 2, timestep 0", "squares")
def a_number_whose_square_overflows(r: Recording):
    r.columns["observations"][400, 2] = 1e30


@defect(ERROR, "observations", "1e+09", "episode 4, timestep 100", "nothing would be left")
def an_observation_that_drowns_the_others(r: Recording):
    r.columns["observations"][900, 2] = r.columns["next_observations"][899, 2] = 1e9


@defect(ERROR, "rewards", "episode 0, timestep 7", d4rl=(WARNING, "rewards", "9.99995e-41", "episode 0, timestep 7"))
def a_denormal_reward(r: Recording):
    r.columns["rewards"][7] = 1e-40


# Keys, types, shapes, lengths, files


@defect(ERROR, "rewards")
def a_missing_key(r: Recording):
    del r.columns["rewards"]


@defect(WARNING, "'dones'", "'terminals'", minari=None, blind=NO_EXTRAS)
def an_extra_key(r: Recording):
    r.columns["dones"] = r.columns["terminals"]


@defect(ERROR, "rewards")
def a_column_of_texts(r: Recording):
    r.columns["rewards"] = r.columns["rewards"].astype("S8")


@defect(ERROR, "observations", "complex")
def a_column_of_complex_numbers(r: Recording):
    r.columns["observations"] = r.columns["observations"].astype(np.complex64)


@defect(ERROR, "observations", "(1200,)", minari=(ERROR, "observations"))
def observations_of_the_wrong_rank(r: Recording):
    r.columns["observations"] = r.columns["observations"][:, 0]
    r.columns["next_observations"] = r.columns["next_observations"][:, 0]


@defect(ERROR, "rewards", "2)")
def rewards_of_the_wrong_rank(r: Recording):
    r.columns["rewards"] = np.stack([r.columns["rewards"]] * 2, axis=1)


@defect(ERROR, "actions", "(1200, 1, 2)")
def actions_of_the_wrong_rank(r: Recording):
    r.columns["actions"] = np.stack([r.columns["actions"]] * 2, axis=2)


@defect(ERROR, "actions", "1197", minari=(ERROR, "episode 5"))
def lengths_that_disagree(r: Recording):
    r.columns["actions"] = r.columns["actions"][:-3]


@defect(ERROR, "0 timesteps", minari=(ERROR, "0 episodes"))
def a_file_without_timesteps(r: Recording):
    r.columns, r.ends = {name: values[:0] for name, values in r.columns.items()}, r.ends[:0]


@defect(ERROR, "empty", damage=lambda folder: _file(folder).write_bytes(b""), minari=(ERROR, "cannot be read"))
def a_file_of_no_bytes(r: Recording):
    pass


@defect(ERROR, "cut short", minari=(ERROR, "cannot be read"),
        damage=lambda folder: _file(folder).write_bytes(_file(folder).read_bytes()[:9000]))  # fmt: skip
def a_file_cut_short(r: Recording):
    pass


@defect(ERROR, "fingerprint", d4rl=None, d4rl_named=None, minari=None, blind="others keep no fingerprint")
def columns_edited_after_writing(r: Recording):
    r.seal = "0" * 64


# Columns as a whole


@defect(WARNING, "observations", "never change", "first: 3")
def a_constant_dimension(r: Recording):
    for key in ("observations", "next_observations"):
        r.columns[key] = np.concatenate([r.columns[key], np.full((1200, 1), 0.5, np.float32)], axis=1)


@defect(WARNING, "actions never change")
def an_action_that_never_changes(r: Recording):
    return _replayed(r, np.zeros((1200, 1), np.float32))


@defect(WARNING, "rewards never change", "all are 0")
def rewards_that_are_all_zero(r: Recording):
    r.columns["rewards"][:] = 0


@defect(WARNING, "rewards never change", "all are -1")
def rewards_that_are_all_alike(r: Recording):
    r.columns["rewards"][:] = -1


@defect(WARNING, "rewards are others", "1,200", "episode 0, timestep 0", d4rl=None, blind=NAMELESS)
def rewards_in_another_scale(r: Recording):
    r.columns["rewards"] *= 0.1


@defect(ERROR, "actions", "continuous", "CartPole-v1", base=cartpole, d4rl=(WARNING, "actions", "whole numbers 0 to 1"))
def choices_in_a_float_column(r: Recording):
    r.columns["actions"] = r.columns["actions"].astype(np.float32)


@defect(ERROR, "actions", "discrete", "Pendulum-v1", d4rl=None, blind=NAMELESS)
def torques_in_an_integer_column(r: Recording):
    r.columns["actions"] = np.abs(np.rint(r.columns["actions"])).astype(np.int64)


@defect(ERROR, "action", "2.5", "episode 2, timestep 50", "Pendulum-v1", d4rl=None, blind=NAMELESS)
def an_action_beyond_the_range(r: Recording):
    r.columns["actions"][450] = 2.5


@defect(WARNING, "actions", "one half of its range", d4rl=None, blind=NAMELESS)
def actions_in_another_scale(r: Recording):
    return _replayed(r, np.random.default_rng(0).uniform(0, 1, (1200, 1)).astype(np.float32))


@defect(ERROR, "actions are rescaled to -1 to 1", "low + (actions + 1) / 2 * (high - low)", d4rl=None, blind=NAMELESS)
def actions_as_a_replay_buffer_keeps_them(r: Recording):
    """Stable-Baselines3's: rescaled to -1 to 1."""
    r.columns["actions"] /= 2


@defect(ERROR, "action -1", "episode 0, timestep 4", base=cartpole)
def a_negative_choice(r: Recording):
    r.columns["actions"][4] = -1


@defect(ERROR, "action 1048576", "episode 0, timestep 4", base=cartpole)
def a_choice_of_a_million(r: Recording):
    r.columns["actions"][4] = 1 << 20


@defect(ERROR, "action 2", "episode 0, timestep 4", "0 to 1", base=cartpole, d4rl=None, blind=NAMELESS)
def a_choice_that_there_is_not(r: Recording):
    r.columns["actions"][4] = 2


def _replayed(r: Recording, actions) -> Recording:
    """The same starts with other actions, played by the rules."""
    from foretell.datasets.rules import KNOWN

    following = r.columns["observations"][r.ends - 200]
    rule, rows = KNOWN[r.environment], r.ends - 200
    for t in range(200):
        r.columns["observations"][rows + t] = following
        following, r.columns["rewards"][rows + t], _ = rule(following, actions[rows + t])
        following = following.astype(np.float32)
        r.columns["next_observations"][rows + t] = following
    r.columns["actions"] = actions
    return r
