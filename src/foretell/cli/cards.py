"""Cards laid out for reading: of a dataset, and of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foretell.cli.own_environments import evaluate_next
from foretell.core.decimals import counted, decimals_between, decimals_of, shown


def dataset_card_text(card: dict[str, Any]) -> str:
    """Return the card of a dataset (`datasets.card`) in lines."""
    returns, lengths = card["returns"], card["episode_lengths"]
    score, policy = card["normalized_score"], card["behaviour_policy"]
    shortest = "" if lengths["min"] == lengths["max"] else f"{lengths['min']:,.0f} to "
    lines = [
        f"{card['name']}: {counted(card['steps'], 'timestep')} in {counted(card['episodes'], 'episode')} of "
        f"{shortest}{counted(round(lengths['max']), 'timestep')}",
        f"environment        {card['environment'] or 'not named'}",
        f"behaviour policy   {policy['algorithm'] or 'not named'}{'. ' if policy['description'] else ''}"
        f"{policy['description']}",
        "return per episode mean {mean}, sd {sd}, {min} to {max} (reward units)".format_map(
            {name: _decimal(returns[name], returns["min"], returns["max"]) for name in ("mean", "sd", "min", "max")}
        ),
        f"normalised score   {score:.1f} (0 is random, 100 the reference)" if score is not None else
        "normalised score   no reference scores are known for this environment",
        f"ends               {counted(card['terminations'], 'termination')}, "
        f"{counted(card['truncations'], 'truncation')}",
        *(f"{name:<18} {_ranges(card[name])}" for name in ("observations", "actions")),
        f"fingerprint        {card['fingerprint'][:16]}",
        "",
        *_histogram(returns["histogram"]),
        "",
        *([f"{found['severity']}: {found['message']}" for found in card["warnings"]] or ["no warnings"]),
    ]  # fmt: skip
    return "\n".join(lines)


def _decimal(number: float | None, low: float | None, high: float | None) -> str:
    return "not finite" if number is None else f"{number:.{max(decimals_between(low, high), decimals_of(number))}f}"


def run_card_text(card: dict[str, Any]) -> str:
    """Return the card of a run (`facade.run_card`) in lines; what it has not is left out."""
    data, validation, told = card["dataset"], card["validation"], card["condition"]
    rows = [
        ("dataset", data and f"{data['name']}: {counted(data['steps'], 'timestep')} in "
         f"{counted(data['episodes'], 'episode')}, returns {shown(data['lowest_return'], data['highest_return'])} to "
         f"{shown(data['highest_return'], data['lowest_return'])}"),
        ("environment", card["environment"] or "not named"),
        ("condition", told),
        ("asks for", card["target"] and _target(card["target"])),
        ("network", card["model"] and _settings(card["model"])),
        ("parameters", f"{card['parameters']:,}"),
        ("trained", counted(card["updates"], "timestep" if card["kind"] == "sac" else "update")
         + f", seed {card['seed']}"),
        ("acts by", card["acting"] and _settings(card["acting"])),
        ("validation", validation and f"{shown(validation['mean_return'])} on average at "
         f"{'step' if 'step' in validation else 'update'} {validation.get('step', validation.get('update')):,}"),
        *(("evaluation", _evaluation(found, card["environment"])) for found in card["evaluations"]),
    ]  # fmt: skip
    if not card["evaluations"]:
        rows.append(("evaluation", f"none yet: {evaluate_next(card['run'], card['environment'])}"))
    lines = [f"{name:<12} {value}" for name, value in rows if value]
    return "\n".join([f"{card['run']}: a finished run of {card['algorithm']}", *lines])


def _target(target: Mapping[str, Any]) -> str:
    return target["rule"] if target["return"] is None else f"{target['return']:g} ({target['rule']})"


def _evaluation(found: Mapping[str, Any], environment: str | None) -> str:
    asked = "" if found["target"] is None else f", asked for {found['target']:g}"
    elsewhere = "" if found["environment"] == environment else f" in {found['environment']}"
    average = f"{shown(found['mean_return'])} on average over {counted(found['episodes'], 'episode')}"
    return f"{found['policy']}{elsewhere}{asked}: {average}"


def _settings(settings: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in settings.items() if value not in (None, [], ())}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _ranges(column: dict[str, Any]) -> str:
    low, high = column["min"], column["max"]
    pairs = zip(low, high) if isinstance(low, list) else [(low, high)]
    ranges = ", ".join("none" if a is None or b is None else f"{a:.3g} to {b:.3g}" for a, b in pairs)
    return f"shape {tuple(column['shape'])} {column['dtype']}: {ranges}"


def _histogram(histogram: dict[str, Any]) -> list[str]:
    edges, counts = histogram["edges"], histogram["counts"]
    top = max(counts, default=0) or 1
    digits = decimals_between(edges[0], edges[1]) if edges else 1
    return [
        f"{low:>10.{digits}f} to {high:<10.{digits}f} {'█' * round(40 * count / top)} {count:,}"
        for low, high, count in zip(edges[:-1], edges[1:], counts)
    ]
