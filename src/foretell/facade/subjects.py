"""Who is evaluated: a finished run, one of each seed, a policy by name, or one of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import sha256_of
from foretell.core.forms import LONGEST_NAME
from foretell.core.run_settings import GREEDY, alike
from foretell.core.seeds_folder import require_alike, runs_of_seeds
from foretell.core.settings import path_of, seed_of
from foretell.environments.making import environment_spec
from foretell.evaluation.configs import ACTING, PlanningConfig
from foretell.evaluation.own_policy import OWN, own_policy
from foretell.evaluation.policies import UniformPolicy, acting_of, restore_policy, restore_values
from foretell.evaluation.protocol import Policy
from foretell.facade.environments import fitting_environment
from foretell.sequences.defaults import usual_defaults
from foretell.training.run_folder import load_run

NAMED = ("random", "optimum")
"""Policies that need no run: uniform actions, and the optimum of Pendulum-v1 by dynamic programming."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who is evaluated: what acts, where, and what the records say of it."""

    policy: Policy
    environment: str
    facts: dict[str, Any]
    config: Mapping[str, Any]
    """Of a run, or the algorithm alone."""


def _of_run(
    run: Path, environment: str | None, acting: Mapping[str, Any] | None, name: str | None, root_seed: int
) -> Subject:
    if str(run) in NAMED:
        if acting:
            raise UsageError(f"{', '.join(map(str, acting))}: no settings of how the policy {run} acts; expected none.")
        policy, spec_name = _named(str(run), environment, root_seed)
        config: Mapping[str, Any] = {"algorithm": str(run), "seed": 0}
    else:
        config, tensors = load_run(run)
        policy = _restored(run, config, tensors, acting)
        spec_name = fitting_environment(dict(config), environment).name
    dataset = config.get("dataset")
    sequence = config.get("kind") == "sequence"
    algorithm = config["algorithm"] + (GREEDY if (acting or {}).get("greedy") else "")
    facts = {
        "policy": name or (dataset["name"] if sequence and dataset else algorithm),
        "algorithm": config["algorithm"], "dataset": dataset and dataset["name"], "seed": config["seed"],
        "environment": spec_name, "settings": _settings_of(config, acting),
        "data": dataset and dataset["fingerprint"][:16],
    }  # fmt: skip
    if len(str(facts["policy"])) > LONGEST_NAME:
        raise UsageError(
            f"{run}: records would be called by its data's name, of {len(str(facts['policy']))} letters; expected at "
            f"most {LONGEST_NAME}. Give a name."
        )
    return Subject(policy=policy, environment=spec_name, facts=facts, config=config)


def _of_own(
    policy: Policy, environment: str | None, acting: Mapping[str, Any] | None, name: str | None, seed: int
) -> Subject:
    if environment is None or not name:
        raise UsageError(
            "a policy of your own is evaluated in an environment and under a name; expected both, for example "
            'environment="Pendulum-v1", name="mine".'
        )
    if acting:
        raise UsageError(
            f"{', '.join(map(str, acting))}: settings of how a run acts; expected none of your own policy."
        )
    spec_name = environment_spec(environment).name
    facts = {
        "policy": name, "algorithm": OWN, "dataset": None, "seed": seed, "environment": spec_name, "settings": None,
        "data": None,
    }  # fmt: skip
    return Subject(policy=policy, environment=spec_name, facts=facts, config={"algorithm": OWN})


def _settings_of(config: Mapping[str, Any], acting: Mapping[str, Any] | None) -> str | None:
    """Return a checksum of how a run was trained and acts; None of policies that are no runs."""
    if not config.get("kind"):
        return None
    settings = acting_of(config, acting or {})
    return alike(config, asdict(settings) if settings else {})


@usual_defaults
def load_policy(run: str | Path, *, acting: Mapping[str, Any] | None = None) -> Policy:
    """Load a finished run as a policy: `reset(num_envs=...)`, then in turn `act` and `observe`.

    `acting` changes settings of acting by name, `{"horizon": 3}` of a planner say (`evaluation.configs`).
    Raises `CheckpointError` where `run` is not a finished run folder, `UsageError` for settings that it has not.
    """
    check_by_name(acting)
    folder = path_of("run", run)
    return _restored(folder, *load_run(folder), acting)


def check_by_name(acting: Any) -> None:
    """Raise `UsageError` where changes to settings of acting are no mapping; None is taken."""
    if acting is not None and not isinstance(acting, Mapping):
        raise UsageError(
            f"acting is of type {type(acting).__name__}; expected settings by name, those to be changed, for example "
            '{"horizon": 3}.'
        )


def _restored(
    run: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], acting: Mapping[str, Any] | None
) -> Policy:
    behaviour = {**(config.get("acting") or {}), **(acting or {})}.get("behaviour")
    needed = ACTING.get(config.get("algorithm", "")) is PlanningConfig and (
        config["condition"] == "value" or (config["condition"] == "advantage" and behaviour == "value")
    )
    functions = restore_values(*_values_of(run, config)) if needed else None
    return restore_policy(config, tensors, functions=functions, acting=acting)


def _values_of(run: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and weights of the value functions that a run was trained with.

    Raises `CheckpointError` where those in its folder are of another run.
    """
    found, tensors = load_run(run / "values")
    if given := config["values_from"]:
        same = sha256_of(run / "values" / "model.safetensors") == given
    else:
        parts = ("values", "dataset", "seed")  # units may be those of the weights that a run began with
        same = found["kind"] == "values" and all(found[part] == config[part] for part in parts)
    if not same:
        raise CheckpointError(
            f"{run / 'values'}: holds value functions of another run than {run} was trained with; it was put in their "
            "place. Restore it."
        )
    return found, tensors


def _named(name: str, environment: str | None, root_seed: int) -> tuple[Policy, str]:
    if environment is None:
        raise UsageError(f"the policy {name} needs --environment, for example --environment Pendulum-v1.")
    if name == "random":
        spec = environment_spec(environment)
        return UniformPolicy(spec, root_seed), spec.name
    if environment != "Pendulum-v1":
        raise UsageError(f"the optimum is known for Pendulum-v1 alone; found --environment {environment}.")
    from foretell.agents.pendulum_optimum import OptimumPolicy, pendulum_optimum

    return OptimumPolicy(pendulum_optimum()), environment


def subjects(
    run: Any, *, environment: str | None, acting: Mapping[str, Any] | None, name: str | None, seed: int | None,
    root_seed: int,
) -> list[Callable[[], Subject]]:  # fmt: skip
    """Return what finds each of those who are evaluated, when its turn comes: all seeds of a folder, else one.

    Raises as `facade.evaluation.evaluate` for what is to be heard of before the first acts.
    """
    own = own_policy(run)
    if own is not None:
        return [partial(_of_own, own, environment, acting, name, 0 if seed is None else seed_of("seed", seed))]
    folder = path_of("run", run)
    if seed is not None:
        raise UsageError(f"seed {seed}: a run has its own, this one is for a policy of your own. Leave it out.")
    seeds = [] if str(run) in NAMED else runs_of_seeds(folder)
    require_alike(seeds)
    for one in seeds:  # which is not finished is to be heard of before the first acts
        load_run(one)
    return [partial(_of_run, one, environment, acting, name, root_seed) for one in seeds or [folder]]
