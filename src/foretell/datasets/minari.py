"""Minari datasets, read from and written to the user's local Minari storage (`MINARI_DATASETS_PATH`).

What Minari has no place for (seed, hyper-parameters, versions, policy weights, whether final observations are known)
lies in its metadata under `foretell`, so that the way there and back loses nothing.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import warnings
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.core.errors import DatasetError, ForetellError, UsageError
from foretell.core.scores import checked_references
from foretell.datasets import stored_metadata
from foretell.datasets.d4rl import convert, with_episodes
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import inside
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.hdf5 import refuse_other_files
from foretell.datasets.metadata import DatasetMetadata
from foretell.datasets.minari_episodes import Notes, episode_columns
from foretell.datasets.recorded_environment import changes_of_environment, registered_alike, with_keywords
from foretell.environments.action_flattening import ActionParts, parts_or_none
from foretell.environments.flattening import described
from foretell.environments.keywords import parsed

if TYPE_CHECKING:
    from minari import MinariDataset

KEY = "foretell"
NEXT = "next_observations"
"""Name of the info that keeps `next_observations` where they do not simply repeat the following observations."""
REFERENCES = ("ref_min_score", "ref_max_score")
"""What Minari calls the two mean returns that its normalised score calls 0 and 1."""


def read_minari(dataset_id: str) -> Dataset:
    """Read a Minari dataset into memory, observations as one array, actions as one choice or a row of numbers.

    An episode that is left open is flagged as truncated, infos that are no numbers a timestep are left out, parts of an
    observation lie one behind the other (`environments.flattening`), several choices are one
    (`environments.action_flattening`): `Dataset.notes` says so.

    Raises `UsageError` where minari is not installed or the id is malformed, `DatasetError` where the dataset is not in
    the local storage, or has observations or actions of no fixed size or of another space.
    """
    minari = _minari(dataset_id)
    with _unreadable(dataset_id):
        _check_spaces(minari, dataset_id)
        return read_minari_dataset(minari.load_dataset(dataset_id))


def read_minari_dataset(source: MinariDataset) -> Dataset:
    """Read what Minari has loaded, filtered, split or combined: the episodes that it points to.

    It is what `read_minari` gives of its id, where these are all of them. Raises `DatasetError` as that does.
    """
    dataset_id = source.spec.dataset_id
    with _unreadable(dataset_id):
        return _read(source, dataset_id)


def _read(source: MinariDataset, dataset_id: str) -> Dataset:
    stored = source.storage.metadata
    described(source.spec.observation_space)
    notes = Notes(space=source.spec.observation_space, actions=parts_or_none(source.spec.action_space))
    episodes = [episode_columns(episode, dataset_id, notes) for episode in source.iterate_episodes()]
    if not episodes:
        raise DatasetError(f"minari:{dataset_id}: 0 episodes; expected at least 1.")
    names = set(episodes[0])
    if any(set(columns) != names for columns in episodes):
        raise DatasetError(f"minari:{dataset_id}: episodes keep different infos; expected {sorted(names)} in each.")
    table = {name: np.concatenate([columns[name] for columns in episodes]) for name in episodes[0]}
    infos = {name.removeprefix("infos/"): table.pop(name) for name in list(table) if name.startswith("infos/")}
    ours = stored.get(KEY)
    if ours and ours["next_observations"] == "infos":
        table["next_observations"] = infos.pop(NEXT)
    elif ours and ours["next_observations"] == "unknown":
        del table["next_observations"]
    table = convert(table, f"minari:{dataset_id}")
    environment, note = (None, ()) if ours else _environment_of(source.spec.env_spec)
    metadata = _our_metadata(ours) if ours else _their_metadata(source, stored, environment)
    ends = np.cumsum([len(columns["rewards"]) for columns in episodes])
    found = with_episodes(table, ends, environment=metadata.environment, horizon=None, where=f"minari:{dataset_id}")
    found["notes"] += notes.sentences() + note
    whole = len(episodes) == source.storage.total_episodes  # else extras are those of other timesteps too
    extras = _decode(ours["extras"]) if ours and whole else {}
    return Dataset(name=dataset_id, infos=infos, metadata=metadata, extras=extras, **found)


@contextlib.contextmanager
def _unreadable(dataset_id: str) -> Generator[None]:
    """Have whatever is raised for data that cannot be read told with their id; metadata may hold anything."""
    try:
        yield
    except UsageError as error:
        raise DatasetError(f"minari:{dataset_id}: {error}") from None
    except (ForetellError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DatasetError(
            f"minari:{dataset_id}: cannot be read ({reason}). To fetch it: minari download {dataset_id}"
        ) from error


def _environment_of(spec: Any) -> tuple[str | None, tuple[str, ...]]:
    """Return the id that stands for the recording's environment, None where none does, and what is to be said of it."""
    if spec is None:
        return None, ()
    changes = changes_of_environment(spec)
    if not changes:
        return spec.id, ()
    made = f"recorded in {spec.id} with {', '.join(changes)}"
    if (same := registered_alike(spec)) is not None:
        return same, (f"{made}, which is registered as {same}.",)
    if (same := with_keywords(spec)) is not None:
        return same, (f"{made}, which is called {same}.",)
    return None, (
        f"{made}, which that id does not stand for: no environment is named. Register one that is made so, and give it "
        "with --environment.",
    )


def write_minari(dataset: Dataset, dataset_id: str) -> None:
    """Write a dataset to the local Minari storage under `dataset_id`, for example `pendulum/medium-v0`.

    Raises `UsageError` where minari is not installed, or the id is malformed or taken; `DatasetError` where the columns
    are not those that the file held when it was written.
    """
    minari = _minari(dataset_id)
    unchanged(dataset)
    from minari.data_collector import EpisodeBuffer

    agree = dataset.next_observations is not None and _transitions_agree(dataset)
    if dataset.next_observations is not None and not agree:
        dataset = replace(dataset, infos={**dataset.infos, NEXT: dataset.next_observations})
    state = "repeated" if agree else "unknown" if dataset.next_observations is None else "infos"
    spaces, folder = _spaces(dataset), minari.storage.datasets_root_dir.get_dataset_path(dataset_id)
    buffers = [EpisodeBuffer(**columns) for columns in _buffers(dataset, parts_or_none(spaces["action_space"]))]
    there = folder.exists()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # author, e-mail and permalink are the user's to add
            written = minari.create_dataset_from_buffers(
                dataset_id, buffers, algorithm_name=dataset.metadata.algorithm,
                description=dataset.metadata.description or None, jpeg_encoding=False, **spaces,
            )  # fmt: skip
    except ValueError as error:
        if there:
            raise UsageError(f"minari:{dataset_id} cannot be written ({error}); choose a free id.") from None
        shutil.rmtree(folder, ignore_errors=True)  # which Minari has begun
        raise UsageError(f"minari:{dataset_id} cannot be written ({error}).") from None
    ends = dataset.metadata.reference_scores
    written.storage.update_metadata(
        {
            **({} if ends is None else dict(zip(REFERENCES, ends, strict=True))),
            KEY: {
                "metadata": _encode(stored_metadata.to_arrays(dataset.metadata)),
                "extras": _encode(dataset.extras),
                "next_observations": state,
            },
        }
    )


def _minari(dataset_id: str) -> ModuleType:
    """Import Minari and let it check the id, before a folder of that name is looked for or made."""
    try:
        import minari
    except ImportError:
        raise UsageError('Minari is not installed; expected it for minari:ID. pip install "minari>=0.5.4"') from None
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
    except (ValueError, TypeError):
        raise UsageError(f"minari:{dataset_id} is no id; expected a form such as pendulum/medium-v0.") from None
    return minari


def _check_spaces(minari: ModuleType, dataset_id: str) -> None:
    """Refuse metadata without spaces: Minari would make the environment named there, importing what it says; and data
    that lead to other files, which it would read."""
    folder = minari.storage.datasets_root_dir.get_dataset_path(dataset_id) / "data"
    stored = minari.dataset.minari_storage.MinariStorage.read_raw_metadata(folder)
    for key in ("observation_space", "action_space"):
        if key not in stored:
            raise DatasetError(f"minari:{dataset_id}: keeps no {key}; expected it beside the data. Write it again.")
    for path in folder.glob("*.hdf5"):
        refuse_other_files(path)


def _buffers(dataset: Dataset, parts: ActionParts | None) -> Iterator[dict[str, Any]]:
    for episode in dataset.episodes():
        yield {
            "observations": episode.observations, "rewards": episode.rewards,
            "actions": episode.actions if parts is None else parts.unflattened(episode.actions),
            "terminations": episode.terminations, "truncations": episode.truncations,
            # Minari's infos have one row an observation; the final one's is not known and repeats the last.
            "infos": {name: np.concatenate([v, v[-1:]]) for name, v in episode.infos.items()},
        }  # fmt: skip


def _transitions_agree(dataset: Dataset) -> bool:
    following = dataset.next_observations
    assert following is not None
    inner = inside(dataset)[:-1]
    return np.array_equal(dataset.observations[1:][inner], following[:-1][inner])


def _spaces(dataset: Dataset) -> dict[str, Any]:
    """Spaces from the environment where Gymnasium makes it and it fits, else as wide as the type."""
    import gymnasium
    from gymnasium import spaces

    kind = dataset.observations.dtype
    low, high = (0, 255) if kind == np.uint8 else (-np.inf, np.inf)
    observations: spaces.Space = spaces.Box(low, high, dataset.observation_shape, kind.type)
    if dataset.num_actions is not None:
        actions: spaces.Space = spaces.Discrete(dataset.num_actions)
    else:
        actions = spaces.Box(-np.inf, np.inf, (dataset.action_dim,), np.float32)
    environment = dataset.metadata.environment
    found: dict[str, Any] = {"observation_space": observations, "action_space": actions}
    if environment is None or ":" in environment:
        return found
    try:
        registered, keywords = parsed(environment)
        env = gymnasium.make(registered, **keywords)
    except (gymnasium.error.Error, UsageError, ImportError, TypeError, ValueError):  # not here, or needs arguments
        return found
    env.close()
    parts = parts_or_none(env.action_space)
    if parts is None or parts.hold(dataset.num_actions, dataset.action_dim):
        found["action_space"] = env.action_space
    if env.spec is not None and isinstance(env.spec.entry_point, str):  # Minari cannot store an environment's class
        found["env"] = env.spec if keywords else environment
    if env.observation_space.shape == dataset.observation_shape and env.observation_space.dtype == kind:
        found["observation_space"] = env.observation_space
    return found


def _their_metadata(source: Any, stored: Mapping[str, Any], environment: str | None) -> DatasetMetadata:
    kept = {f"minari/{name}": stored[name] for name in ("code_permalink", "author", "author_email") if name in stored}
    return DatasetMetadata(
        environment=environment,
        algorithm=stored.get("algorithm_name"),
        description=stored.get("description", ""),
        versions={"minari": source.minari_version},
        reference_scores=_reference_scores(stored),
        extra={
            k: np.asarray(np.bytes_((v if isinstance(v, str) else ", ".join(sorted(v))).encode()))
            for k, v in kept.items()
        },
    )


def _reference_scores(stored: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the ends of Minari's normalised score, None where there are no two of them apart."""
    ends = [stored.get(name) for name in REFERENCES]
    try:
        low, high = checked_references(ends)
        return _as_written(low), _as_written(high)
    except UsageError:
        return None


def _as_written(number: float) -> float:
    """Return a number that was a float32 as that is written, 21.2 and not 21.200000762939453."""
    with np.errstate(over="ignore"):
        narrow = np.float32(number)
    return float(str(narrow)) if float(narrow) == number else number


def _our_metadata(stored: Mapping[str, Any]) -> DatasetMetadata:
    return stored_metadata.from_arrays(_decode(stored["metadata"]))


def _encode(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        name: {"dtype": v.dtype.str, "shape": list(v.shape), "base64": base64.b64encode(v.tobytes()).decode()}
        for name, v in arrays.items()
    }


def _decode(stored: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(base64.b64decode(v["base64"]), np.dtype(v["dtype"])).reshape(v["shape"])
        for name, v in stored.items()
    }
