"""`foretell inspect`: what is in a dataset, and what is wrong with it; what a run is, and what it attends to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foretell.cli.cards import dataset_card_text, run_card_text
from foretell.core.decimals import shown
from foretell.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show the card of a dataset, or of a finished run; or draw what a run attends to.

    A dataset's card has episodes, steps, returns, ranges, behaviour policy, normalised score and warnings. Exit code 3
    where something is found that would make training wrong.

    To try it:
      foretell inspect data/pendulum-medium.hdf5
      foretell inspect minari:mujoco/hopper/expert-v0 --json
      foretell inspect runs/dt
      foretell inspect runs/dt --attention --timestep 60
    """

    path: Annotated[str, tyro.conf.Positional]
    """Path of an HDF5 file in D4RL's form, minari:ID, or a finished run folder."""
    environment: str | None = None
    """Gymnasium id, where the file does not name it; its action range and horizon are checked. With --attention, where
    the episode is acted; default: where the run was trained."""
    horizon: int | None = None
    """Time limit in timesteps, for files that do not say where episodes end."""
    ends_at: str | None = None
    """Array of the file whose flags are True at the last timestep of each episode, and which alone says where they end:
    timeouts (AntMaze), episode_terminals (d3rlpy), terminals. Terminals elsewhere are cleared."""
    card: Path | None = None
    """Also write the card as JSON to this file."""
    attention: bool = False
    """Of a run of a transformer: act an episode, and draw the attention weights of one window in every layer and
    head."""
    timestep: int | None = None
    """With --attention: the window's last timestep. Default: the middle of the episode."""
    dataset: str | None = None
    """With --attention: take the first episode of this dataset, where the environment cannot be made."""
    out: Path | None = None
    """With --attention: the figure, a name that ends in .png; an .svg comes beside it. Default: attention.png in the
    run folder."""
    json: bool = False
    """Print the card, or what was drawn, as one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Return the card, or what was drawn."""
        self._refuse_what_does_not_apply()
        if self.attention:
            from foretell.facade.attention import draw_run_attention

            return draw_run_attention(
                self.path, self.out, timestep=self.timestep, dataset=self.dataset, environment=self.environment,
                horizon=self.horizon, ends_at=self.ends_at,
            )  # fmt: skip
        if self._is_folder:
            from foretell.facade.run_card import run_card

            card = run_card(self.path)
        else:
            card = self._dataset_card()
        if self.card:
            from foretell.core.files import write_json

            write_json(self.card, card)
        return card

    @property
    def _is_folder(self) -> bool:
        return Path(self.path).is_dir()

    def _dataset_card(self) -> dict[str, Any]:
        if not Path(self.path).suffix and ":" not in self.path and not Path(self.path).exists():
            raise UsageError(f"{self.path}: is not there; expected a run folder, a dataset (.hdf5, .h5) or minari:ID.")
        from foretell.datasets.card import dataset_card
        from foretell.datasets.registry import open_dataset
        from foretell.environments.making import environment_spec, stored_environment_spec

        dataset = open_dataset(self.path, horizon=self.horizon, environment=self.environment, ends_at=self.ends_at)
        spec = stored_environment_spec(dataset.metadata.environment)
        return dataset_card(dataset, environment_spec(self.environment) if self.environment else spec)

    def _refuse_what_does_not_apply(self) -> None:
        """Refuse a flag that would have no effect: whoever gives it expects one."""
        if self.card and self.card.suffix != ".json":
            raise UsageError(f"--card {self.card}; expected a file name that ends in .json.")
        if self.attention:
            unused = {
                "--card": self.card is not None,
                "--environment": self.environment is not None and self.dataset is not None,
                "--horizon": self.horizon is not None and self.dataset is None,
                "--ends-at": self.ends_at is not None and self.dataset is None,
            }
            where = f"--attention {'with' if self.dataset else 'without'} --dataset"
        else:
            unused = {f"--{name}": getattr(self, name) is not None for name in ("timestep", "dataset", "out")}
            where = "inspect without --attention"
            if self._is_folder:
                of_data = ("environment", "horizon", "ends_at")
                unused |= {f"--{name.replace('_', '-')}": getattr(self, name) is not None for name in of_data}
                where = "a run folder without --attention"
        if given := [flag for flag, there in unused.items() if there]:
            raise UsageError(f"{', '.join(given)}: of no use to {where}; leave it out.")

    def failed(self, result: dict[str, Any]) -> bool:
        """Whether something was found that training must not meet."""
        return any(found["severity"] == "error" for found in result.get("warnings", ()))

    def show(self, result: dict[str, Any]) -> str:
        """Lay the card out for reading, or say what was drawn."""
        if self.attention:
            shapes = [f"{found['name']} {' x '.join(map(str, found['shape']))}" for found in result["maps"]]
            episode = result["episode"]
            return (
                f"{result['figure']}: {'; '.join(shapes)} (layers x heads x queries x keys), in timestep "
                f"{result['timestep']} of an episode of {episode['length']} in {episode['of']}, return "
                f"{shown(episode['return'])}. {result['caption']}"
            )
        return run_card_text(result) if self._is_folder else dataset_card_text(result)
