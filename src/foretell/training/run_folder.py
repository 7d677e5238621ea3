"""A run folder: everything that is needed to act with, continue, or explain a run.

`config.json` (what was asked for), `model.safetensors` (the last weights), `events.jsonl` and TensorBoard files
(what was measured on the way), `checkpoints/` (to continue), `evaluations.jsonl` (written by evaluation). All but the
TensorBoard files carry checksums, and belong to the configuration: it is written once and never changed.
"""

from __future__ import annotations

import contextlib
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from foretell.agents.native.building import library as small_networks
from foretell.core.checksums import KEY, sealed, sealed_lines
from foretell.core.compiling import compiler_name
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import read_json_lines, read_sealed_json, resource_errors, write_json, write_json_lines
from foretell.core.run_forms import MANIFEST, check_events, read_config
from foretell.core.run_settings import as_json, differences
from foretell.core.seeds_folder import runs_of_seeds
from foretell.core.space import require_room
from foretell.core.system import flush, processor_name
from foretell.core.versions import NUMERICS, versions
from foretell.core.warning import warn_caller
from foretell.models.native.building import kernels
from foretell.training.checkpoints import KEPT, let_go, load_newest, load_tensors, save_checkpoint, save_tensors
from foretell.training.native.loading import library as optimizers

_LEFT_BY_A_DEATH = re.compile(r"\.(config\.json|events\.jsonl|model\.safetensors|replay\.hdf5)\.|\.tmp\w{6}$")
"""Names of files that were being written when a start died, the last those of safetensors; the next one removes
them."""


def run_versions(device: str = "cpu") -> dict[str, str]:
    """Return what the last bits of a run's numbers depend on: versions, threads, and what computes, by whose code."""
    found = {**versions("torch"), "numerics": str(NUMERICS), "threads": str(torch.get_num_threads())}
    if device != "cpu":
        return found | {"processor": torch.cuda.get_device_name(), "kernels": "torch"}
    capability = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    found |= {"processor": capability, "processor_model": processor_name(), "kernels": kernels()}
    if found["kernels"] == "torch":
        return found
    if not optimizers() or not small_networks():
        found["kernels"] += " but for " + ("small networks" if optimizers() else "optimisers")
    compiler = compiler_name()
    return found | ({"compiler": compiler} if compiler else {})


class RunFolder:
    """The folder of one run, opened for training: made on the first start, continued on any later one.

    As a context it takes its configuration back where an error ends a first start before anything was learned or
    measured: the command, once mended, finds the folder free.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]):
        """Create or continue `path` for `config` (JSON values only).

        Raises `UsageError` where the folder holds a run of another configuration; nothing is overwritten.
        """
        self.path = Path(path)
        self.config = as_json(config, allow_nan=False)
        self._started = time.monotonic()
        self._events: list[dict[str, Any]] = []
        self._writer: Any = None
        self._continued_at: int | None = None
        self._made = False
        left = [entry for entry in self._entries() if _LEFT_BY_A_DEATH.match(entry.name)]
        if self.config_path.exists():
            existing = read_sealed_json(self.config_path)
            self._check_same(existing)
        elif any(entry.name != ".lock" and entry not in left for entry in self._entries()):
            raise UsageError(f"{self.path}: exists and is not a run folder; choose another --out.")
        else:
            existing = sealed({**self.config, "versions": self._versions()})
            write_json(self.config_path, existing)
            self._made = True
        self._checksum = existing[KEY]
        for entry in left:
            with resource_errors(entry):
                entry.unlink(missing_ok=True)  # a writer takes those of its own name away

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is not None:  # its thread would go on writing into the folder
            with contextlib.suppress(OSError):
                self._writer.close()
        if kind and self._made and all(map(self._is_nothing, self._entries())):
            with contextlib.suppress(OSError):
                for folder in filter(Path.is_dir, self._entries()):
                    (folder / ".lock").unlink(missing_ok=True)
                    folder.rmdir()
                self.config_path.unlink()

    def _is_nothing(self, entry: Path) -> bool:
        """Whether an entry holds nothing that was learned or measured: the folder of another run may be empty."""
        if entry.is_dir():
            return all(inner.name == ".lock" for inner in entry.iterdir())
        return entry.name in (".lock", self.config_path.name)

    def _entries(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.exists() else []

    def _check_same(self, existing: dict[str, Any]) -> None:
        if different := differences(existing, self.config):
            learned = any(self.path.rglob("update-*")) or any(self.path.rglob("model.safetensors"))
            rather = (
                "" if learned else " It has neither weights nor a checkpoint, so the folder can be removed as well."
            )
            longer = "" if not self._finished_shorter(existing) else (
                " It is finished; to train it further, give another --out, with --initial-weights "
                f"{self.path}."
            )  # fmt: skip
            raise UsageError(
                f"{self.path}: holds a run of another configuration ({different}). "
                f"Choose another --out, or the same settings to continue it.{longer or rather}"
            )

    def _finished_shorter(self, existing: Mapping[str, Any]) -> bool:
        """Whether it is this run but for its updates, of which it has fewer, and has its weights."""
        there, here = existing.get("training") or {}, self.config.get("training") or {}
        same = {**self.config, "training": {**here, "updates": there.get("updates")}}
        fewer = there.get("updates", 0) < here.get("updates", 0)
        return fewer and not differences(existing, same) and (self.path / "model.safetensors").exists()

    @property
    def config_path(self) -> Path:
        """Where the configuration lies."""
        return self.path / "config.json"

    @property
    def finished(self) -> bool:
        """Whether the last weights are written: there is nothing left to do. Raises `CheckpointError` for damage."""
        weights = self.path / "model.safetensors"
        return weights.exists() and bool(load_tensors(weights, self._checksum))

    def resume(self) -> tuple[dict[str, Tensor], int] | None:
        """Return the newest whole checkpoint and its update; events written after it are taken back.

        Raises `CheckpointError` where `events.jsonl` has fewer events than the checkpoint counted. Warns where the
        versions, threads or processor are others than those that the checkpoint was made with.
        """
        found = load_newest(self.path / "checkpoints", {"configuration": self._checksum}, MANIFEST)
        if found is None:
            return None
        state, manifest = found
        counted = int(manifest["events"])
        self._events = read_json_lines(self._events_path, first=counted) if counted else []
        if len(self._events) < counted:
            raise CheckpointError(
                f"{self.path / 'events.jsonl'}: {len(self._events)} events; the checkpoint counted {counted}. "
                "Restore the file, or start a new run. If the folder was copied while it trained, copy the file again."
            )
        check_events(self._events, self._events_path)
        self._warn_of_change(manifest["versions"])
        self._continued_at = int(manifest["update"])
        let_go(self.path / "checkpoints", self._continued_at)  # a start may have died before it could
        self._started -= float(manifest["wall_seconds"])
        return state, int(manifest["update"])

    def _versions(self) -> dict[str, str]:
        return run_versions(self.config.get("device", "cpu"))

    def _warn_of_change(self, there: dict[str, str]) -> None:
        there = {"numerics": "fewer", **there}  # of runs that began before these were counted
        changed = {name: f"{name} {there[name]} there, {value} here"
                   for name, value in self._versions().items() if there.get(name, value) != value}  # fmt: skip
        if changed:
            how_far = (
                "its numbers may differ, by what CHANGELOG.md says under Numerics,"
                if "numerics" in changed else "the last bits of its numbers may differ"
            )  # fmt: skip
            warn_caller(
                f"{self.path}: continues otherwise than it began ({'; '.join(changed.values())}); {how_far} from those "
                "of a run in one piece."
            )

    def require_room(self, learned: Mapping[str, Tensor], beside: int = 0) -> None:
        """Raise `ResourceError` where the run cannot be written, or what it will keep has no room.

        `learned` are the tensors that an optimiser with two moments learns, `beside` bytes that a checkpoint holds
        besides: `KEPT` of them and one that is being written, then the weights.
        """
        weights = sum(tensor.numel() * tensor.element_size() for tensor in learned.values())
        there = sum(path.stat().st_size for path in self.path.glob("checkpoints/update-*/*"))
        require_room(self.path, (KEPT + 1) * (3 * weights + beside) + weights + beside - there)

    def event(self, event: str, at: Mapping[str, int], **measurements: float) -> None:
        """Append one event, to `events.jsonl` and to TensorBoard. `at` is {"update": N} or {"step": N}."""
        record = {"event": event, **at, **measurements, "wall_seconds": round(self.wall_seconds, 3)}
        self._events.append(record)
        if self._writer is None:  # the first of this start: what an earlier one wrote beyond its checkpoint goes
            write_json_lines(self._events_path, self._events, growing=True)
        else:
            line = sealed_lines([record], self._checksum, growing=True, first=len(self._events))
            with resource_errors(self._events_path), self._events_path.open("ab") as handle:
                handle.write(line.encode())
        with resource_errors(self.path):
            for name, value in measurements.items():
                self.tensorboard.add_scalar(f"{event}/{name}", value, next(iter(at.values())))

    def has(self, event: str, at: Mapping[str, int]) -> bool:
        """Whether such an event was written of this run, in this start or an earlier one."""
        return any(one["event"] == event and at.items() <= one.items() for one in reversed(self._events))

    @property
    def _events_path(self) -> Path:
        return self.path / "events.jsonl"

    def _flush_events(self) -> None:
        """Bring the events to the disk before a checkpoint counts them."""
        if self._events:
            with resource_errors(self._events_path):
                flush(self._events_path)

    @property
    def tensorboard(self) -> Any:
        """The TensorBoard writer, opened when first used: the import takes a second."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.path), purge_step=self._continued_at and self._continued_at + 1)
        return self._writer

    @property
    def wall_seconds(self) -> float:
        """Seconds spent on this run, earlier starts counted in."""
        return time.monotonic() - self._started

    def checkpoint(self, update: int, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint from which `resume` continues bit for bit."""
        self._flush_events()
        facts = {
            "configuration": self._checksum, "events": len(self._events), "wall_seconds": self.wall_seconds,
            "versions": self._versions(),
        }  # fmt: skip
        save_checkpoint(self.path / "checkpoints", update, state, facts)

    def finish(self, model: Mapping[str, Tensor]) -> None:
        """Write the whole list of events and the last weights, and read the weights back."""
        write_json_lines(self._events_path, self._events)
        if self._writer is not None:
            with resource_errors(self.path):
                self._writer.close()
        weights = self.path / "model.safetensors"
        save_tensors(weights, model, self._checksum)
        load_tensors(weights, self._checksum)


def load_run(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return configuration and last weights of a finished run.

    Raises `CheckpointError` where the folder is not a run, is unfinished, or a file is damaged or another run's, and
    where the configuration lacks a setting.
    """
    if not (Path(path) / "config.json").exists():
        raise CheckpointError(f"{path}: {_in_place_of_a_run(Path(path))}")
    config = read_config(Path(path) / "config.json", whole=True)
    return config, load_tensors(Path(path) / "model.safetensors", config[KEY])


def _in_place_of_a_run(path: Path) -> str:
    """Say what lies where a run folder was expected."""
    if not path.is_dir():
        there = "is a file" if path.exists() else "No such file or directory"
        return f"{there}; expected the folder of a finished run, with its config.json."
    if seeds := runs_of_seeds(path):
        return f"holds runs of several seeds; expected one of them, for example {seeds[0]}."
    return (
        "holds no config.json; expected the folder of a finished run. If its training was stopped before it wrote a "
        "file, start it again."
    )


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a run, oldest first. Raises `CheckpointError` where they are not as they were written."""
    log = Path(path) / "events.jsonl"
    events = read_json_lines(log)
    check_events(events, log)
    return events
