"""`foretell inspect`: what is in a dataset, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foretell.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show a dataset's card: episodes, steps, returns, ranges, behaviour policy, normalised score, warnings.

    Exit code 3 where something is found that would make training wrong.

    To try it:
      foretell inspect data/pendulum-medium.hdf5
      foretell inspect minari:mujoco/hopper/expert-v0 --json
    """

    dataset: Annotated[str, tyro.conf.Positional]
    """Path of an HDF5 file in D4RL's form, or minari:ID."""
    environment: str | None = None
    """Gymnasium id, where the file does not name it; its action range and horizon are checked."""
    horizon: int | None = None
    """Time limit in timesteps, for files that do not say where episodes end."""
    card: Path | None = None
    """Also write the card as JSON to this file."""
    json: bool = False
    """Print the card as one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Return the card."""
        from foretell.core.files import write_json
        from foretell.datasets.card import dataset_card
        from foretell.datasets.registry import open_dataset
        from foretell.environments.making import environment_spec, stored_environment_spec

        if self.card and self.card.suffix != ".json":
            raise UsageError(f"--card {self.card}; expected a file name that ends in .json.")
        dataset = open_dataset(self.dataset, horizon=self.horizon)
        spec = stored_environment_spec(dataset.metadata.environment)
        card = dataset_card(dataset, environment_spec(self.environment) if self.environment else spec)
        if self.card:
            write_json(self.card, card)
        return card

    def failed(self, result: dict[str, Any]) -> bool:
        """Whether something was found that training must not meet."""
        return any(found["severity"] == "error" for found in result["warnings"])

    def show(self, card: dict[str, Any]) -> str:
        """Lay the card out for reading."""
        returns, lengths = card["returns"], card["episode_lengths"]
        score = card["normalized_score"]
        lines = [
            f"{card['name']}: {card['steps']:,} timesteps in {card['episodes']:,} episodes of "
            f"{lengths['min']:.0f} to {lengths['max']:.0f} timesteps",
            f"environment        {card['environment'] or 'not named'}",
            f"behaviour policy   {card['behaviour_policy']['algorithm'] or 'not named'}. "
            f"{card['behaviour_policy']['description']}",
            f"return per episode mean {returns['mean']:.1f}, sd {returns['sd']:.1f}, "
            f"{returns['min']:.1f} to {returns['max']:.1f} (reward units)",
            f"normalised score   {score:.1f} (0 is random, 100 the reference)" if score is not None else
            "normalised score   no reference scores are known for this environment",
            f"ends               {card['terminations']:,} terminations, {card['truncations']:,} truncations",
            *(f"{name:<18} {_ranges(card[name])}" for name in ("observations", "actions")),
            f"fingerprint        {card['fingerprint'][:16]}",
            "",
            *_histogram(returns["histogram"]),
            "",
            *([f"{found['severity']}: {found['message']}" for found in card["warnings"]] or ["no warnings"]),
        ]  # fmt: skip
        return "\n".join(lines)


def _ranges(column: dict[str, Any]) -> str:
    low, high = column["min"], column["max"]
    pairs = zip(low, high) if isinstance(low, list) else [(low, high)]
    ranges = ", ".join("none" if a is None or b is None else f"{a:.3g} to {b:.3g}" for a, b in pairs)
    return f"shape {tuple(column['shape'])} {column['dtype']}: {ranges}"


def _histogram(histogram: dict[str, Any]) -> list[str]:
    edges, counts = histogram["edges"], histogram["counts"]
    top = max(counts) or 1
    return [
        f"{low:>10.1f} to {high:<10.1f} {'█' * round(40 * count / top)} {count:,}"
        for low, high, count in zip(edges[:-1], edges[1:], counts)
    ]
