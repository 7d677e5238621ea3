"""Defects of episodes: ends, seams, shifted columns, repetition."""

from __future__ import annotations

import numpy as np

from faults.defect_cases import CATALOGUE, ERROR, WARNING, cartpole, defect, pendulum, problems
from faults.defect_forms import FORMS, Recording, play
from faults.defects import DERIVED, NAMELESS, NO_EXTRAS
from faults.harness import Scale, Tally, fault_check

ERROR_OF_RULES = (ERROR, "observations", "episode 0, timestep 199")
HELD = "each episode lies in its own group of a Minari file, so that its end is known"


@defect(ERROR, "episode 2", "0 actions", foretell=None, d4rl=None, d4rl_named=None,
        blind="episodes of D4RL's form lie end to end, and one without timesteps leaves no trace")  # fmt: skip
def an_empty_episode(r: Recording):
    r.ends = np.insert(r.ends, 2, r.ends[1])


@defect(WARNING, "next_observations", "final observation", minari=(ERROR, "episode 0", "200 observations"))
def final_observations_missing(r: Recording):
    del r.columns["next_observations"]


@defect(ERROR, "rewards", "one timestep late", "episode 0, timestep 0", d4rl=None, blind=NAMELESS)
def rewards_shifted_by_one(r: Recording):
    r.columns["rewards"] = np.roll(r.columns["rewards"], 1)


@defect(ERROR, "rewards", "one timestep early", "episode 0, timestep 0", d4rl=None, blind=NAMELESS)
def rewards_shifted_back_by_one(r: Recording):
    r.columns["rewards"] = np.roll(r.columns["rewards"], -1)


@defect(ERROR, "actions", "one timestep late", "episode 0, timestep 0", d4rl=(WARNING, "actions", "one timestep late"))
def actions_shifted_by_one(r: Recording):
    r.columns["actions"] = np.roll(r.columns["actions"], 1, axis=0)


@defect(ERROR, "actions", "one timestep early", "episode 0", base=cartpole,
        d4rl=(WARNING, "actions", "one timestep early"))  # fmt: skip
def choices_shifted_back_by_one(r: Recording):
    r.columns["actions"] = np.roll(r.columns["actions"], -1)


@defect(WARNING, "last timesteps of all 6 episodes", "action 0 and reward 0", foretell=ERROR_OF_RULES,
        minari=ERROR_OF_RULES)  # fmt: skip
def a_step_behind_each_end(r: Recording):
    r.columns["actions"][199::200] = r.columns["rewards"][199::200] = 0


@defect(WARNING, "final observations", "6 of 6 episodes", foretell=ERROR_OF_RULES, d4rl_named=ERROR_OF_RULES,
        minari=ERROR_OF_RULES)  # fmt: skip
def final_observations_made_up(r: Recording):
    r.columns["next_observations"][199::200] = 0


@defect(WARNING, "'timeouts'", minari=None, blind=HELD)
def timeouts_missing(r: Recording):
    del r.columns["timeouts"]


@defect(ERROR, "observations", "episode 0, timestep 200", "do not go on", minari=None, blind=HELD)
def timeouts_never_set(r: Recording):
    r.columns["timeouts"][:] = False


@defect(ERROR, "terminations", "episode 2, timestep 117", foretell=(ERROR, "episode 2, timestep 117"),
        minari=(ERROR, "episode 2, timestep 117"))  # fmt: skip
def a_terminal_in_the_middle(r: Recording):
    r.columns["terminals"][517] = True


@defect(WARNING, "truncations", "episode 2, timestep 117", "goes on", foretell=(ERROR, "episode 2, timestep 117"),
        minari=(ERROR, "episode 2, timestep 117"))  # fmt: skip
def a_timeout_in_the_middle(r: Recording):
    r.columns["timeouts"][517] = True


@defect(ERROR, "episode 1, timestep 0", "goes on from the end of the episode before", "Leave out the row behind")
def steps_that_only_reset(r: Recording):
    behind = r.ends[:-1]
    final, starts = r.columns["next_observations"][behind - 1], r.columns["observations"][behind]
    for name, values in r.columns.items():
        nothing = np.zeros_like(values[behind])
        rows = {"observations": final, "next_observations": starts, "actions": values[behind]}.get(name, nothing)
        r.columns[name] = np.insert(values, behind, rows, axis=0)
    r.ends += np.arange(len(r.ends))


@defect(ERROR, "terminations", "True", "episode 0, timestep 199", d4rl=None, blind=NAMELESS)
def time_limits_as_terminals(r: Recording):
    r.columns["terminals"], r.columns["timeouts"] = r.columns["timeouts"], r.columns["terminals"]


@defect(ERROR, "terminations", "False", "episode 3", base=cartpole, d4rl=None, blind=NAMELESS)
def a_fall_as_a_timeout(r: Recording):
    r.columns["terminals"][r.ends[3] - 1], r.columns["timeouts"][r.ends[3] - 1] = False, True


@defect(WARNING, "both termination and truncation", "first: episode 1", base=cartpole)
def terminal_and_timeout_at_once(r: Recording):
    r.columns["timeouts"][r.ends[1:] - 1] = True


@defect(ERROR, "'terminals'", "nan", "row 300", "0 or 1")
def nan_among_the_terminals(r: Recording):
    r.columns["terminals"] = np.where(np.arange(1200) == 300, np.nan, 0.0)


@defect(ERROR, "'timeouts'", "0.5", "row 399", minari=(ERROR, "episode 1", "'truncations'", "0.5", "row 199"))
def half_a_timeout(r: Recording):
    r.columns["timeouts"] = np.where(np.arange(1200) == 399, 0.5, r.columns["timeouts"])


@defect(WARNING, "open", "flagged as truncated", minari=(WARNING, "1 episode is left open", "episode 5"))
def a_last_episode_left_open(r: Recording):
    r.columns["timeouts"][1199] = False


@defect(WARNING, "stored ends", "flags say it", d4rl=None, d4rl_named=None, minari=None, blind="others store no ends")
def stored_ends_that_do_not_fit(r: Recording):
    r.stored_ends = r.ends[:-1]


@defect(WARNING, "episode 4 equals 1")
def an_episode_twice(r: Recording):
    for values in r.columns.values():
        values[800:1000] = values[200:400]


@defect(
    ERROR, "observations", "episode 1, timestep 150", d4rl=(ERROR, "observations", "episode 1, timestep 150", "ring")
)
def a_ring_buffer_that_was_not_unrolled(r: Recording):
    """850 of 1,150 timesteps are left; the newest begin at 850 and lie in front of the oldest, which begin at 300."""
    r.take(np.concatenate([np.arange(850, 1150), np.arange(300, 850)]))


@defect(ERROR, "observations", "episode 2, timestep 17", d4rl=(WARNING, "observations", "episode 2, timestep 17"))
def an_observation_of_another_place(r: Recording):
    """The observation of timestep 17 is that of another episode, before and after consistently."""
    elsewhere = r.columns["observations"][_far_from(r, 417)]
    r.columns["observations"][417] = r.columns["next_observations"][416] = elsewhere


@defect(ERROR, "observations", "episode 3, timestep 40")
def timesteps_dropped(r: Recording):
    r.take(np.delete(np.arange(1200), np.arange(640, 643)))


@defect(ERROR, "next_observations", "episode 0, timestep 0", "1193 of 1194", minari=None, blind=DERIVED)
def next_observations_shifted(r: Recording):
    r.columns["next_observations"] = np.roll(r.columns["next_observations"], -1, axis=0)


@defect(ERROR, "next_observations", "episode 3, timestep 40", d4rl=(WARNING, "next_observations",
        "episode 3, timestep 40"), minari=None, blind=DERIVED)  # fmt: skip
def a_next_observation_that_disagrees(r: Recording):
    r.columns["next_observations"][640] += 0.1


@defect(ERROR, "next_observations", "rows not in the order", minari=(ERROR, "observations"))
def rows_out_of_order(r: Recording):
    inner = np.random.default_rng(0).permutation(199)
    rows = np.concatenate([np.append(start + inner, start + 199) for start in range(0, 1200, 200)])
    r.columns = {name: values[rows] for name, values in r.columns.items()}


@defect(ERROR, "observations", "rows not in the order", d4rl=(WARNING, "observations 2 rows apart", "swapaxes(0, 1)"),
        minari=None, blind=DERIVED)  # fmt: skip
def environments_side_by_side(r: Recording):
    """Of two environments that were stepped as one, timestep by timestep, without what was seen last."""
    del r.columns["next_observations"]
    r.take(
        np.concatenate([np.arange(start, start + 400).reshape(2, 200).T.reshape(-1) for start in range(0, 1200, 400)])
    )


@defect(WARNING, "after 405 of 407 terminations", "--ends-at timeouts", base=lambda: play([400] * 4), minari=None,
        foretell=(ERROR, "terminations", "True"), d4rl_named=(ERROR, "terminations", "True"), blind=HELD)  # fmt: skip
def terminals_where_the_goal_is_reached(r: Recording):
    """The goal is a pole that points down; no episode ends there."""
    del r.columns["next_observations"]
    r.columns["terminals"] = r.columns["observations"][:, 0] < -0.9


@defect(WARNING, "all 6 episodes", "observations", base=lambda: play([200] * 6, same_start=True))
def every_episode_from_the_same_start(r: Recording):
    pass


@defect(WARNING, "episode 1 has 250 timesteps", "200", base=lambda: play([200, 250, 200]), d4rl=None, blind=NAMELESS)
def an_episode_beyond_the_horizon(r: Recording):
    pass


@defect(WARNING, "1 episode has a single timestep", "episode 2", base=lambda: play([200, 200, 1, 200]))
def an_episode_of_one_timestep(r: Recording):
    pass


@defect(WARNING, "timesteps", "150", "episode 4, timestep 100", minari=None, blind=NO_EXTRAS)
def timesteps_that_fall(r: Recording):
    r.columns["timesteps"] = np.tile(np.arange(200), 6)
    r.columns["timesteps"][900:1000] = np.arange(150, 50, -1)


def _far_from(r: Recording, row: int) -> int:
    """The row whose observation differs most, in its least differing dimension, from that of `row`."""
    observations = r.columns["observations"]
    return int(np.argmax((np.abs(observations - observations[row]) / observations.std(axis=0)).min(axis=1)))


assert pendulum().ends[-1] == 1200  # the places above count on it


@fault_check("defects of data: named and refused", quick=False)
def every_defect(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    for one in CATALOGUE:
        for form in FORMS:
            if one.found[form] is not None:
                (folder := scale.folder / f"{one.name}-{form}").mkdir()
                tally.add(not (wrong := problems(one, form, folder)), f"{one.name}, {form}: {wrong}")
    return tally.figures
