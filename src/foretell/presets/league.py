"""The methods that are compared on Pendulum's four datasets, with their settings and the reasons for them.

All settings were chosen on validation starts. A new method is an entry of `pendulum_methods`.
"""

from __future__ import annotations

from dataclasses import replace

from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.models.configs import (
    DecisionTransformerConfig,
    EncoderDecoderConfig,
    LSTMConfig,
    MLPConfig,
    ModelConfig,
    TrajectoryTransformerConfig,
)
from foretell.presets.experiment import PLAIN, Lesson, Method
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig

RANDOM, FIVE_EPISODES, FULL_REPLAY, MEDIUM = DATASETS = (
    "pendulum-random", "pendulum-medium-replay", "pendulum-full-replay", "pendulum-medium",
)  # fmt: skip

MODEL = DecisionTransformerConfig(
    context_length=5, width=64, layers=2, dropout=0.0, activation="gelu", timestep_embedding="sinusoidal"
)
"""Small: Pendulum is Markov, and two layers of width 64 hold its policy. Chosen on validation starts, as all below."""
SHORT_SIGHTED = replace(MODEL, context_length=1, dropout=0.2)
"""Of five episodes, a model that sees more of the past, and all of its units, only learns more by heart."""
SWITCHING = replace(MODEL, context_length=1, heads=4, timestep_embedding="learned")
"""An advantage says what is best now, whatever came before: one timestep, and more windows. Of two, on pendulum-random,
one of five seeds learned to turn over and over (135 behind SAC on 200 validation starts; another seed of the network
and the same value functions 3 behind); of one timestep, seeds 0 to 4 came 1.3 to 2.6 behind."""
RECURRENT = LSTMConfig(context_length=5, width=64, dropout=0.0)
FEEDFORWARD = MLPConfig(width=256, layers=2, activation="gelu")

TRAINING = TrainingConfig(updates=4_000, evaluate_every=500)
"""By AdamW, for the methods beside the Decision Transformer. 20,000 noisy steps: at a learning rate of 1e-3 a model
stops short of learning the noise by heart; on more data a higher one gains nothing either."""
SCHEDULES = {
    RANDOM: replace(TRAINING, updates=1_500, evaluate_every=250),  # the return says nothing: more changes nothing
    FIVE_EPISODES: replace(TRAINING, updates=1_000, evaluate_every=125),  # 1,000 steps, seen sixty times over
    FULL_REPLAY: TRAINING,
    MEDIUM: TRAINING,
}
WIDE = replace(TRAINING, learning_rate=2e-3, batch_size=320)
"""320 windows of one timestep: as many timesteps an update as 64 windows of 5."""

MUON = TrainingConfig(optimizer="muon", updates=1_000, learning_rate=2e-3, warmup_updates=25, evaluate_every=200)
"""By Muon, for the Decision Transformer: what AdamW learns in 3,000 or 4,000 updates. With three iterations towards an
orthogonal step in place of five, it lost 141 and 57 on the whole replay (seeds 1 and 2); with a momentum of 0.9, 30 on
pendulum-random (seed 2). Here and below: mean return behind SAC from 200 validation starts."""
NOISE = replace(MUON, updates=400, evaluate_every=100, learning_rate=1e-3, matrix_learning_rate=5e-3)
"""The return says nothing: more updates change nothing, nor do more than two timesteps."""
BY_HEART = replace(NOISE, updates=320, evaluate_every=80)
"""1,000 steps, each seen twenty times."""
REPLAYED = replace(
    MUON, updates=1_500, evaluate_every=300, batch_size=320, learning_rate=7e-4, matrix_learning_rate=7e-3
)
"""The whole replay, whose timesteps are as noisy as they are few; 320 windows of one timestep. Seeds 0 to 4: 11.0, the
worst of them 13.0. Of 256 windows 13.0 (seeds 0 to 3), in 1,200 updates 14.5. At 1e-3 and 1e-2 10.9, the worst 16.3;
1,000 updates of that 14.3, of 640 windows 9.9, the worst 14.7; 800 updates at 1e-3 and 5e-3 27 (seeds 0 to 2). By
AdamW, in 4,000 updates, 11; 160 windows of two timesteps: 37."""
AGENTS_OWN = replace(MUON, batch_size=320)
"""The agent's own episodes, one timestep. Seeds 0 to 4: 2.5; of 256 windows 3.5, in 800 updates of these 7.0. Matrices
moved twice as far: 3.2, in 600 updates of 640 windows 4.2; 800 updates at 1e-3 4.9 (seeds 0 to 2). By AdamW, in 4,000
updates, 4.2; of 64 windows of five 7.7."""
STEERED = replace(MUON, batch_size=400)
"""Told advantages by RANKING, pendulum-random: 2.1 (seeds 0 to 4). Of 256 windows 2.2, but seed 3, which turned over
and over from some starts, 44; so it did in 800 updates. By VALUES 2.4; at 1e-3 8.8, with matrices moved half as far
4.1. By AdamW, in 3,000 updates of these, 2.0. One layer, seeds 0 and 1: 145.6 and 5.5."""
STEERED_BY_IMAGINED = replace(MUON, batch_size=256)
"""Told advantages of imagined timesteps, pendulum-medium: 4.8 (seeds 0 to 2); of 400 windows 5.0 (0 and 1), in 800
updates 5.7. By VALUES and of 400 windows 3.9, at 1e-3 5.1, with matrices moved half as far 8.6; by AdamW 4.9 (0 to 4).
One layer, seeds 0 and 1: 4.9 and 16.9. Half the imagined timesteps lost 2."""
IMAGINED = 200_000
"""Timesteps imagined where the recorded actions do not cover the range: what is best can then not be told from what was
done, and among an agent's near-equal actions the ranks are noise."""
VALUES = IQLConfig(updates=5_000, expectile=0.9)
"""On 1,000,000 random steps as good a greedy policy as 20,000 updates give, in a quarter of the time."""
RANKING = replace(VALUES, batch_size=512, hidden_sizes=(64, 64), learning_rate=2e-3, discount=0.98, policy=False)
"""Tells advantages: only the order of actions in a state is read, which half the horizon and half the width hold, in
half the time of VALUES; what models learn from it stands above. Pendulum-random, by 256 windows an update: of width 96
3.6, 2.5, 2.4 and 2.6 (seeds 3, 1, 0 and 2). Batches of 256: seed 1 lost 131; 4,000 updates at a target rate of 0.0065:
32; 3,000 at 0.01 and a discount of 0.96: 6 to 22. With half the updates or half the horizon (0.95 in 3,000 updates)
-200 and less, all seeds alike; at twice the target rate of VALUES -500."""


SYMBOLS = TrajectoryTransformerConfig(
    context_length=2, width=64, layers=2, heads=2, dropout=0.0, binning="uniform", smoothing=1.0
)
"""Uniform bins: most of an expert's timesteps lie at rest, and quantile bins would leave few for the way there."""
WRITING = EncoderDecoderConfig(context_length=1, horizon=2, width=64, feedforward_width=256, dropout=0.0)
"""Reads one timestep, for Pendulum is Markov. Told two, one of five seeds fell from four of 200 starts beside the
upright into turning over and over, faster there than any recorded episode; told one, none did. Mean return behind SAC
from 200 validation starts, pendulum-medium, seeds 0 to 4: 1.1, 2.0, 2.0, 2.4 and 2.6; told two (48 windows, 5,000
updates) 2.1, 2.7, 4.0, 24.4 and 4.0. On pendulum-full-replay, seeds 0 to 3: 11.8, 8.6, 8.0 and 5.8; told two (3,000
updates) 11.5, 31.9, 21.4 and 5.3."""
WRITTEN = 96
"""Windows of an update, of two timesteps each; by AdamW."""
PLANNED = replace(TRAINING, learning_rate=3e-3, batch_size=96, evaluate_every=0)
"""Symbols are learned one by one: a higher learning rate than numbers need. No curve, for planning takes its time."""
TOLD = Lesson(
    model=replace(SYMBOLS, context_length=1, told=True, table_smoothing=2.0), acting=PlanningConfig(behaviour="median"),
    training=replace(PLANNED, updates=2_000, batch_size=192, learning_rate=1e-3),
)  # fmt: skip
"""The whole replay, where returns differ by who acted and when: of the likeliest fifth of the actions the one whose
foretold return is the highest came to about -360 from 200 validation starts (SAC -148). Told the return to be earned
and the timestep, the mean action came to -162.9 (seeds 0 to 4), without the timestep to about -280 (two seeds). With
embeddings that neighbouring bins share -157.3 (seeds 0 to 3), and the middle action -154.3: where turning either way is
as good, the mean turns neither way. Windows of two timesteps learn to go on as they did, whoever acted: about -185."""
GUIDED = PlanningConfig(beam_width=64)
"""128 actions are compared: Q-functions that see every one of them need no more than the present timestep. Not only
those that the agent of pendulum-medium would have taken: what it does where it never came is made up, and a plan comes
there. So held, it was 258 behind SAC on one machine; of all actions, from 200 validation starts, seeds 0 to 4 came 0.6,
3.3, 2.6, 0.2 and 1.9 behind. By Q-functions of the recorded timesteps, in which the agent acts alone, about 1,000."""

TEN_EPISODES = Lesson(model=FEEDFORWARD, training=replace(TRAINING, updates=3_000, batch_size=256))
"""The best tenth of the whole replay is ten good episodes, without a bad action to learn by heart."""
CLONED = Lesson(model=replace(MODEL, context_length=1, action_loss="absolute"), training=WIDE)
"""The transformer's clone of the whole replay: one timestep, for from two it learns to go on as it did: -241 (three
seeds) against -315."""
MEDIAN = replace(FEEDFORWARD, action_loss="absolute")
"""The whole replay has few bad actions among many good ones: their mean is worse than their median, -310 against -220
on validation starts (five seeds)."""


def pendulum_methods() -> tuple[Method, ...]:
    """Return every method; those without `shown` lessons are in the league alone."""
    plain = {
        RANDOM: Lesson(model=replace(MODEL, context_length=2), training=NOISE, shown=True),
        FIVE_EPISODES: Lesson(model=SHORT_SIGHTED, training=BY_HEART, shown=True),
        FULL_REPLAY: Lesson(model=replace(MODEL, context_length=1), training=REPLAYED, shown=True),
        MEDIUM: Lesson(model=replace(MODEL, context_length=1), training=AGENTS_OWN, shown=True),
    }
    steered = {
        name: Lesson(model=SWITCHING, training=STEERED_BY_IMAGINED, values=RANKING, imagined=IMAGINED, shown=True)
        for name in (FIVE_EPISODES, FULL_REPLAY, MEDIUM)
    } | {RANDOM: Lesson(model=SWITCHING, training=STEERED, values=RANKING, shown=True)}
    return (
        Method(name=PLAIN, label="Decision Transformer", algorithm=PLAIN, condition="return", lessons=plain),
        Method(
            name="decision-transformer-advantage", label="Decision Transformer on advantages", algorithm=PLAIN,
            condition="advantage", lessons=steered,
        ),
        Method(
            name="decision-transformer-value", label="Q-learning Decision Transformer", algorithm=PLAIN,
            condition="value", lessons=_hidden(plain),
        ),
        Method(name="lstm", label="LSTM", algorithm="lstm", condition="return", lessons=_with(RECURRENT)),
        Method(name="rvs", label="RvS (feed-forward)", algorithm="mlp", condition="return", lessons=_with(FEEDFORWARD)),
        Method(
            name="bc", label="Behaviour cloning", algorithm="mlp", condition="none",
            lessons={**_with(FEEDFORWARD), FULL_REPLAY: _with(MEDIAN)[FULL_REPLAY]},
        ),
        Method(
            name="bc-sequence", label="Behaviour cloning, transformer", algorithm=PLAIN, condition="none",
            lessons={**_hidden(plain), FULL_REPLAY: CLONED},
        ),
        Method(
            name="bc-best", label="Behaviour cloning of the best 10%", algorithm="mlp", condition="none",
            best_share=0.1, lessons={**_with(FEEDFORWARD), FULL_REPLAY: TEN_EPISODES},
        ),
        Method(
            name="trajectory-transformer", label="Trajectory Transformer", algorithm="trajectory-transformer",
            condition="return", lessons=_planned(),
        ),
        Method(
            name="trajectory-transformer-value", label="Trajectory Transformer, guided by values",
            algorithm="trajectory-transformer", condition="value", lessons=_guided(),
        ),
        Method(
            name="encoder-decoder", label="Encoder-decoder Transformer", algorithm="encoder-decoder",
            condition="return", lessons=_written(),
        ),
        Method(
            name="iql", label="Implicit Q-learning", algorithm="iql", condition=None,
            lessons={name: Lesson(values=VALUES) for name in DATASETS},
        ),
    )  # fmt: skip


def _with(model: ModelConfig) -> dict[str, Lesson]:
    """Return the same model for every dataset; a feed-forward one sees one timestep a window and gets more windows."""
    batch_size = 256 if isinstance(model, MLPConfig) else TRAINING.batch_size
    return {name: Lesson(model=model, training=replace(SCHEDULES[name], batch_size=batch_size)) for name in DATASETS}


def _planned() -> dict[str, Lesson]:
    """Return lessons from recorded data: told the return, by the return, or, of one policy, what it would do."""
    updates = {RANDOM: 1_000, FIVE_EPISODES: 500, MEDIUM: 5_000}
    behaviours = {name: PlanningConfig(behaviour="return") for name in DATASETS}
    behaviours[MEDIUM] = PlanningConfig(behaviour="expectation")
    return {
        name: Lesson(model=SYMBOLS, training=replace(PLANNED, updates=count), acting=behaviours[name])
        for name, count in updates.items()
    } | {FULL_REPLAY: TOLD}


def _guided() -> dict[str, Lesson]:
    """Return lessons from what actions of the whole range lead to: recorded ones if random, else imagined ones."""
    lesson = Lesson(model=SYMBOLS, training=replace(PLANNED, updates=1_000), acting=GUIDED, values=VALUES)
    return {name: replace(lesson, imagined=None if name == RANDOM else IMAGINED) for name in DATASETS}


def _written() -> dict[str, Lesson]:
    """Return the encoder-decoder's: two actions at once, of which one is taken."""
    return {
        name: Lesson(
            model=WRITING, acting=ChunkingConfig(),
            training=replace(SCHEDULES[name], batch_size=WRITTEN),
        )
        for name in DATASETS
    }  # fmt: skip


def _hidden(lessons: dict[str, Lesson]) -> dict[str, Lesson]:
    return {name: replace(lesson, shown=False) for name, lesson in lessons.items()}
