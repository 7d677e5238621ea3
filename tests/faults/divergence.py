"""NaN in a batch, a loss, a gradient or a weight, in every kind of training and at several of its updates.

Each must stop training before anything of the update is kept, say what and where, end with exit code 5 and leave a
folder from which the same command goes on to the very weights of a run in which nothing happened.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium
import torch
import tyro
from safetensors.torch import load_file

from faults.defect_cases import run
from faults.harness import Scale, Tally, fault_check
from foretell.cli import main as command_line
from foretell.collection.recipes import collect_random
from foretell.core.errors import DivergedError
from foretell.training.sac import SACTraining
from foretell.training.sequence import SequenceTraining
from foretell.values.training import ValueTraining

SEQUENCE = ("--updates", "10", "--batch-size", "4", "--log-every", "3", "--checkpoint-every", "3",
            "--evaluate-every", "0")  # fmt: skip
IQL = ("--values.updates", "10", "--values.batch-size", "4", "--values.log-every", "3", "--values.checkpoint-every",
       "3", "--values.evaluate-every", "0", "--values.hidden-sizes", "8", "8")  # fmt: skip
SHORT = "ForetellPendulumOfTenSteps-v0"
"""SAC's checkpoints lie on ends of episodes; where these are short, little has to be played."""
SAC = ("--environment", SHORT, "--sac.total-steps", "44", "--sac.learning-starts", "14", "--sac.hidden-sizes", "8",
       "--sac.batch-size", "4", "--sac.evaluate-every", "0", "--sac.checkpoint-every", "10")  # fmt: skip
if SHORT not in gymnasium.registry:
    gymnasium.register(SHORT, entry_point="gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=10)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of training: its command, what takes its updates, and what of it can stop being finite."""

    flags: tuple[str, ...]
    training: type
    sampler: tuple[str, str]
    """Attribute of the training and method of it that draw a batch."""
    parts: tuple[str, ...]
    losses: tuple[str, ...]
    network: str
    """Attribute of the training that has the weights."""
    weights: tuple[str, ...]
    """Weights that the training reports by these names; of their gradients, those that are learned."""
    updates: tuple[int, ...] = (0, 4, 9)
    """The first, one with a checkpoint behind it, the last."""
    word: str = "update"
    learned: tuple[str, ...] = field(default=())


_SAC = Kind(
    flags=("--algorithm", "sac", *SAC), training=SACTraining, sampler=("replay", "sample"), network="agent",
    parts=("observations", "actions", "rewards", "next_observations"), losses=("q", "policy", "temperature"),
    weights=("policy.mlp.weights.0", "q.mlp.weights.1", "q_target.mlp.biases.0", "log_temperature"),
    learned=("policy.mlp.weights.0", "q.mlp.weights.1", "log_temperature"), updates=(15, 37, 44), word="step",
)  # fmt: skip


def _flags(model: str, **settings: int) -> tuple[str, ...]:
    return tuple(
        text for name, value in settings.items() for text in (f"--{model}.{name.replace('_', '-')}", str(value))
    )


_VALUE = ("policy.mlp.weights.0", "q.mlp.weights.1", "value.mlp.biases.0")
_IQL = ("functions.policy.weights.0", "functions.q.mlp.weights.1", "functions.value.mlp.biases.0")
KINDS = {
    "decision-transformer": Kind(
        flags=("--context-length", "3", "--width", "8", "--layers", "1", "--target", "-1400", *SEQUENCE),
        training=SequenceTraining,
        sampler=("sampler", "batch"), parts=("observations", "actions", "returns_to_go"), losses=("loss",),
        network="model", weights=("embed_observation.weight", "embed_norm.bias"),
    ),
    "mlp": Kind(
        flags=("--algorithm", "mlp", "--condition", "none", *SEQUENCE), training=SequenceTraining,
        sampler=("sampler", "batch"),
        parts=("observations",), losses=("loss",), network="model", weights=(),
    ),
    "lstm": Kind(
        flags=("--algorithm", "lstm", "--condition", "none", *SEQUENCE), training=SequenceTraining,
        sampler=("sampler", "batch"),
        parts=("observations",), losses=("loss",), network="model", weights=(),
    ),
    "trajectory-transformer": Kind(
        flags=("--algorithm", "trajectory-transformer", *SEQUENCE, *_flags("trajectory-transformer", context_length=3,
               width=8, layers=1, heads=1, bins=10)),
        training=SequenceTraining, sampler=("sampler", "batch"), losses=("loss",), network="model",
        parts=("observations", "actions", "rewards", "returns_to_go"), weights=("norm.bias",),
    ),
    "encoder-decoder": Kind(
        flags=("--algorithm", "encoder-decoder", "--target", "-1400", *SEQUENCE, *_flags("encoder-decoder",
               context_length=3, horizon=2, width=8, layers=1, heads=1, feedforward_width=8)),
        training=SequenceTraining, sampler=("sampler", "batch"), parts=("observations",), losses=("loss",),
        network="model", weights=("action_head.bias",),
    ),
    "iql": Kind(
        flags=("--algorithm", "iql", *IQL), training=ValueTraining, sampler=("sampler", "batch"),
        parts=("observations", "actions", "rewards", "next_observations"),
        losses=("value_loss", "q_loss", "policy_loss"), network="learner",
        weights=(*_IQL, "q_target.mlp.weights.0", "functions.scale"), learned=_IQL,
    ),
    "sac": _SAC,
    "sac (value)": replace(
        _SAC, flags=(*_SAC.flags, "--sac.form", "value"), losses=("q", "value", "policy"),
        weights=(*_VALUE, "value_target.mlp.weights.0"), learned=_VALUE,
    ),
}  # fmt: skip


def faults(kind: Kind) -> list[tuple[str, str]]:
    """What is made NaN: ("batch", part), ("weight", name), ("loss", name), ("gradient", name)."""
    learned = kind.learned or kind.weights
    return [
        *(("batch", part) for part in kind.parts), *(("weight", name) for name in kind.weights),
        *(("loss", name) for name in kind.losses), *(("gradient", name) for name in learned),
    ]  # fmt: skip


def words(kind: Kind, what: str, name: str, at: int) -> tuple[str, ...]:
    """What the message has to say."""
    place = {
        "batch": "row" if kind.sampler[0] == "replay" or kind.training is ValueTraining else "window",
        "weight": "at [",
        "gradient": "at [",
    }.get(what, "")
    said = {
        "batch": f"{name} of the batch hold nan", "weight": f"the weight {name} holds nan",
        "gradient": f"the gradient of {name} holds nan",
        "loss": f"loss of {name} is nan" if kind.training is SACTraining else f"the {name} is nan",
    }[what]  # fmt: skip
    return f"{kind.word} {at}:", said, place


@contextlib.contextmanager
def armed(training: Any, kind: Kind, what: str, name: str) -> Generator[None]:
    """Make one thing NaN in this update, for as long as the context lasts; a weight stays so."""
    network = getattr(training, kind.network)
    factor = _nan_now(training, kind)
    if what == "weight":
        network.state_dict()[name].view(-1)[-1] = torch.nan
        yield
    elif what == "gradient":
        with _poisoned_gradient(training, kind, dict(network.named_parameters())[name], factor):
            yield
    elif what == "batch":
        owner, method = getattr(training, kind.sampler[0]), kind.sampler[1]
        drawn = getattr(owner, method)

        def poisoned(*arguments):
            batch = drawn(*arguments)
            getattr(batch, name).view(len(batch.observations), -1)[2, -1] *= factor()
            return batch

        with mock.patch.object(owner, method, poisoned):
            yield
    else:
        with _poisoned_loss(training, kind, name, factor):
            yield


def _nan_now(training: Any, kind: Kind) -> Callable[[], float]:
    """NaN in this update, 1 in earlier ones of SAC, which are computed again while one is taken back."""
    if kind.training is not SACTraining:
        return lambda: math.nan
    step = training.replay.size
    return lambda: math.nan if training.replay.size == step else 1.0


@contextlib.contextmanager
def _poisoned_gradient(
    training: Any, kind: Kind, parameter: torch.nn.Parameter, factor: Callable[[], float]
) -> Generator[None]:
    if kind.training is SACTraining:  # its gradients are written out; autograd's hooks do not see them
        step = training.agent._step

        def poisoned(name, loss):
            if any(parameter is one for one in training.agent.optimizers[name].param_groups[0]["params"]):
                parameter.grad *= factor()
            step(name, loss)

        with mock.patch.object(training.agent, "_step", poisoned):
            yield
    elif kind.training is ValueTraining:  # and so are these
        write = training.learner.write_gradients

        def written(batch):
            losses = write(batch)
            parameter.grad *= factor()
            return losses

        with mock.patch.object(training.learner, "write_gradients", written):
            yield
    else:
        hook = parameter.register_hook(lambda gradient: gradient * factor())
        yield
        hook.remove()


def _poisoned_loss(training: Any, kind: Kind, name: str, factor: Callable[[], float]) -> Any:
    if kind.training is SACTraining:
        step = training.agent._step
        return mock.patch.object(
            training.agent, "_step", lambda which, loss: step(which, loss * factor() if which == name else loss)
        )
    if kind.training is ValueTraining:
        write = training.learner.write_gradients
        return mock.patch.object(
            training.learner, "write_gradients",
            lambda batch: {key: loss * factor() if key == name else loss for key, loss in write(batch).items()},
        )  # fmt: skip
    loss = training.model.loss
    return mock.patch.object(training.model, "loss", lambda *arguments: loss(*arguments) * factor())


@contextlib.contextmanager
def injected(kind: Kind, what: str, name: str, at: int) -> Generator[list[bool]]:
    """Let the update `at` meet the fault; the list tells, once it failed, whether all weights stayed as they were."""
    kept: list[bool] = []
    plain: Callable = kind.training.update

    def update(self, *arguments):
        if at != (arguments[0] if arguments else self.replay.size):
            return plain(self, *arguments)
        sound = _bits(self)
        with armed(self, kind, what, name):
            before = _bits(self)
            try:
                return plain(self, *arguments)
            except DivergedError:
                # A weight that was damaged may be whole again: an update of SAC is taken back from before the damage.
                kept.append(_bits(self) in (before, sound))
                raise

    with mock.patch.object(kind.training, "update", update):
        yield kept


def _bits(training: Any) -> dict[str, bytes]:
    state = {name: tensor for name, tensor in training.state().items() if not name.startswith("replay/")}
    return {name: tensor.detach().numpy().tobytes() for name, tensor in state.items()}


@cache
def data(folder: Path) -> Path:
    """Two episodes of random torques, written once for each folder."""
    return collect_random("Pendulum-v1", 400, 0, folder / "data.hdf5").path


def command(kind: Kind, folder: Path, out: Path) -> list[str]:
    """Return the command line of the run."""
    source = () if kind.training is SACTraining else (str(data(folder)),)
    return ["train", *source, "--out", str(out), "--threads", "1", "--json", *kind.flags]


def start(kind: Kind, folder: Path, out: Path) -> tuple[int, str]:
    """Run the command; return exit code and stderr."""
    code, _, err = run(*command(kind, folder, out))
    return code, err


@cache
def parsed(name: str, folder: Path) -> Any:
    """The command as the verb's settings: parsing takes longer than so small a run."""
    return tyro.cli(command_line.Verb, prog="foretell", args=command(KINDS[name], folder, folder / "none"))


def finish(name: str, folder: Path, out: Path) -> dict[str, bytes]:
    """Run the same command, to its end; return the last weights."""
    replace(parsed(name, folder), out=out).run()
    return weights_of(out / "model.safetensors")


@cache
def straight(name: str, folder: Path) -> dict[str, bytes]:
    """The last weights of a run in which nothing happened."""
    return finish(name, folder, folder / f"straight-{name}")


def weights_of(path: Path) -> dict[str, bytes]:
    """Tensors of a file by name, as bytes."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def problems(name: str, what: str, part: str, at: int, folder: Path, out: Path) -> list[str]:
    """Return what is wrong with how one fault is met; an empty list is a pass."""
    kind, wrong = KINDS[name], []
    with injected(kind, what, part, at) as kept:
        code, err = start(kind, folder, out)
    if code != 5 or len(err.splitlines()) != 1 or not all(word in err for word in words(kind, what, part, at)):
        wrong.append(f"exit {code}: {err!r}; expected exit 5 and {words(kind, what, part, at)}")
    if kept != [True]:
        wrong.append("the update changed weights or optimiser" if kept else "the fault was not met")
    if (out / "model.safetensors").exists():
        wrong.append("last weights were written")
    for state in out.glob("checkpoints/update-*/state.safetensors"):
        if not all(torch.isfinite(tensor).all() for tensor in load_file(state).values() if tensor.is_floating_point()):
            wrong.append(f"{state} is not finite")
    if finish(name, folder, out) != straight(name, folder):
        wrong.append("the run goes on to other weights")
    return wrong


def cases(name: str, full: bool) -> list[tuple[str, str, int]]:
    """Every fault at every update, or, in the quick form, each at one of them in turn."""
    kind = KINDS[name]
    return [
        (what, part, at)
        for index, (what, part) in enumerate(faults(kind))
        for turn, at in enumerate(kind.updates)
        if full or turn == index % len(kind.updates)
    ]


@fault_check("NaN in a batch, weight, loss or gradient", quick=False)
def all_kinds(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    for name in KINDS:
        for number, (what, part, at) in enumerate(cases(name, scale.full)):
            wrong = problems(name, what, part, at, scale.folder, scale.folder / f"{name}-{number}")
            tally.add(not wrong, f"{name}, {what} {part} at {at}: {wrong}")
    return tally.figures
