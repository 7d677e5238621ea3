"""The result table: our numbers beside the report's, computed from the evaluation records alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from foretell.core.decimals import counted
from foretell.core.errors import CheckpointError
from foretell.core.scores import normalized_score
from foretell.core.seeding import stream
from foretell.reporting.records import PolicyScores, scores_by_policy
from foretell.reporting.statistics import Estimate, estimate_difference, estimate_mean, interquartile_mean

RANDOM, SAC = "random", "sac"
"""The two rows that every other row is measured against."""

QUICK_WARNING = "This is a smoke run (`--quick`): it shows that everything works, its numbers mean nothing."

ALGORITHM_NAMES = {"decision-transformer": "Decision Transformer", SAC: "SAC agent", RANDOM: "random policy"}


def build_table(records: Sequence[Mapping[str, Any]], experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"protocol": {...}, "rows": [...]}`, a row per entry of `experiment["rows"]`, in that order.

    `protocol` is the experiment's, with `quick` added. In a row, all but the last in reward units: `mean_return`,
    `ci95` and `iqm` (of the training seeds' means), `difference_to_sac` and `difference_ci95` (paired by start state;
    0 for SAC itself), `report` (the 2021 report's value or None), `normalized_score` (measured random 0, measured
    SAC 100). `condition` is what the policy is told of the future, None where nothing is said. `episodes` counts the
    start states, once per training seed. The bootstrap's numbers are a function of the protocol's root seed and the
    row's name, so a rerun gives the same table.

    Raises `CheckpointError` where a row has no records, records have no row, start states are missing or doubled, or
    their number or the training seeds are not the protocol's.
    """
    protocol = {**experiment["protocol"], "quick": bool(experiment["quick"])}
    scores = scores_by_policy(records)
    names = [row["name"] for row in experiment["rows"]]
    trained = [row["name"] for row in experiment["rows"] if row["dataset"] is not None]
    check_policies(scores, names, protocol, trained=trained)
    rows = [table_row(row, row["name"], scores, protocol) for row in experiment["rows"]]
    return {"protocol": protocol, "rows": rows}


def check_policies(
    scores: Mapping[str, PolicyScores],
    names: Sequence[str],
    protocol: Mapping[str, Any],
    *,
    trained: Collection[str],
    source: str = "evaluations.jsonl",
    place: str = "row",
) -> None:
    """Raise `CheckpointError` unless `scores` holds the policies `names` and no other, over the protocol's starts, and
    those of them that were `trained` on a dataset with the protocol's training seeds.

    Random and SAC have to be there and to differ. `source` is the file that the scores come from, `place` what
    `experiment.json` calls the entry of a policy.
    """
    for name in (*names, RANDOM, SAC):
        if name not in scores:
            raise CheckpointError(
                f"{source}: no records of policy {name!r}; found {', '.join(scores)}. "
                f"Run `foretell evaluate` for it, or `foretell reproduce` again."
            )
    unknown = [name for name in scores if name not in names]
    if unknown:
        raise CheckpointError(
            f"{source}: policy {unknown[0]!r} is no {place} of experiment.json; expected {', '.join(names)}. "
            f"Remove its lines or add the {place}."
        )
    seeds = sorted(protocol["training_seeds"])
    for name in trained:
        if list(scores[name].seeds) != seeds:
            raise CheckpointError(
                f"{source}: policy {name!r} has records of the training seeds "
                f"{', '.join(map(str, scores[name].seeds))}; the protocol in experiment.json says "
                f"{', '.join(map(str, seeds))}. Run `foretell reproduce` on that folder again."
            )
    expected, found = int(protocol["evaluation_starts"]), len(scores[SAC].starts)
    if found != expected:
        raise CheckpointError(
            f"{source}: {counted(found, 'start state')}; the protocol in experiment.json says {expected}. "
            "Run `foretell evaluate` again with that protocol."
        )
    if scores[SAC].mean == scores[RANDOM].mean:
        raise CheckpointError(
            f"{source}: {RANDOM!r} and {SAC!r} have the same mean return ({scores[SAC].mean}), which leaves "
            "the normalised score without a scale; expected two different policies. Evaluate them again."
        )


def table_row(
    row: Mapping[str, Any], policy: str, scores: Mapping[str, PolicyScores], protocol: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what `row` says of itself with what `policy` was measured to earn, as `build_table` describes it.

    The bootstrap is seeded by the policy, so that a policy has the same numbers in every table.
    """
    own, sac = scores[policy], scores[SAC]
    samples, root_seed = int(protocol["bootstrap_samples"]), int(protocol["root_seed"])
    mean = estimate_mean(own.returns, samples=samples, generator=stream(root_seed, f"table/mean/{policy}"))
    difference = Estimate(value=0.0, low=0.0, high=0.0)
    if policy != SAC:
        generator = stream(root_seed, f"table/difference/{policy}")
        difference = estimate_difference(own.returns, sac.returns, samples=samples, generator=generator)
    return {
        "name": row["name"],
        "dataset": row["dataset"],
        "algorithm": row["algorithm"],
        "mean_return": mean.value,
        "ci95": [mean.low, mean.high],
        "iqm": interquartile_mean(own.returns.mean(axis=1)),
        "difference_to_sac": difference.value,
        "difference_ci95": [difference.low, difference.high],
        "normalized_score": round(normalized_score(own.mean, random=scores[RANDOM].mean, expert=sac.mean), 9),
        "training_seeds": [seed for seed in own.seeds if seed is not None],
        "episodes": len(own.starts),
        "report": row["report"],
        "condition": row.get("condition"),
        "label": row.get("label"),
    }


COLUMNS = (
    "policy",
    "trained on",
    "mean return [95% interval]",
    "difference to SAC [95%]",
    "IQM",
    "normalised",
    "report (2021)",
    "seeds × episodes",
)


TEXT_COLUMNS = 2
"""Of these, how many hold words."""


def table_cells(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows as people read them, one string per entry of `COLUMNS`."""
    return [_cells(row) for row in table["rows"]]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        policy_label(row),
        row["dataset"] or "—",
        mean_cell(row),
        difference_cell(row),
        f"{row['iqm']:.1f}",
        f"{row['normalized_score']:.1f}",
        "—" if row["report"] is None else f"{row['report']:.2f}",
        f"{max(1, len(row['training_seeds']))} × {row['episodes']}",
    )


def mean_cell(row: Mapping[str, Any]) -> str:
    """Return a row's mean return with its interval, for people."""
    low, high = row["ci95"]
    return f"{row['mean_return']:.1f} [{low:.1f}, {high:.1f}]"


def difference_cell(row: Mapping[str, Any]) -> str:
    """Return a row's paired difference to SAC with its interval, for people; SAC's own is 0."""
    low, high = row["difference_ci95"]
    return "0" if row["name"] == SAC else f"{row['difference_to_sac']:+.1f} [{low:+.1f}, {high:+.1f}]"


def policy_label(row: Mapping[str, Any]) -> str:
    """Return the policy's name for people; the row's own name is added where its dataset does not tell it apart."""
    if row.get("label"):
        return row["label"]
    label = ALGORITHM_NAMES.get(row["algorithm"], row["algorithm"])
    return label if row["name"] in (row["dataset"], row["algorithm"]) else f"{label} ({row['name']})"


def protocol_sentence(protocol: Mapping[str, Any]) -> str:
    """Return the protocol as the table's caption: what was measured, and what each column means."""
    return (
        f"{measured_phrase(protocol)}; asked return: {protocol['target_rule']}. {interval_phrase(protocol)}; "
        "difference paired by start state; IQM: interquartile mean of the training seeds' means; normalised: random 0, "
        "SAC 100."
    )


def caption_of(protocol: Mapping[str, Any]) -> str:
    """Return the caption of a table that stands by itself: that of a smoke run says first that it is one."""
    return (QUICK_WARNING + " " if protocol["quick"] else "") + protocol_sentence(protocol)


def measured_phrase(protocol: Mapping[str, Any]) -> str:
    """Return what was measured, from where and how; a sentence without its full stop."""
    return (
        f"{protocol['environment']}, undiscounted return per episode in reward units; "
        f"{counted(protocol['evaluation_starts'], 'start state')} shared by all policies, "
        f"{protocol['acting']} acting, {protocol['checkpoint']} checkpoint"
    )


def interval_phrase(protocol: Mapping[str, Any]) -> str:
    """Return how the intervals were made; a sentence without its full stop."""
    return (
        "Intervals: 95%, bootstrap over training seeds and start states, of one seed over start states alone "
        f"({protocol['bootstrap_samples']:,} resamples)"
    )


def render_markdown(table: Mapping[str, Any]) -> str:
    """Return the table for GitHub, its caption below; a smoke run says first that it is one."""
    lines = quick_lines(table["protocol"]) + markdown_table(COLUMNS, table_cells(table), text_columns=TEXT_COLUMNS)
    return "\n".join([*lines, "", protocol_sentence(table["protocol"]), ""])


def quick_title(title: str, *, quick: bool) -> str:
    """Return a figure's title; that of a smoke run says that it is one."""
    return f"SMOKE RUN, numbers mean nothing: {title}" if quick else title


def quick_lines(protocol: Mapping[str, Any]) -> list[str]:
    """Return the lines that come before a smoke run's table; none for a real run."""
    return [f"**{QUICK_WARNING}**", ""] if protocol["quick"] else []


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    """Return the lines of a GitHub table; all columns but the first `text_columns` are aligned to the right."""
    lines = [_markdown_line(map(_in_head, head)), "|" + ":--|" * text_columns + "--:|" * (len(head) - text_columns)]
    return lines + [
        _markdown_line([*map(markdown_name, cells[:text_columns]), *cells[text_columns:]]) for cells in rows
    ]


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) for cell in cells) + " |"


def markdown_name(name: str) -> str:
    """Return somebody's own name so that Markdown writes it as it is.

    >>> print(markdown_name("<b>*a*`[x](y)|"))
    \\<b>\\*a\\*\\`\\[x\\](y)\\|
    """
    return re.sub(r"([\\<*`\[\]|~$&])", r"\\\1", name)


def _in_head(name: str) -> str:
    """Return the head of a column, which may have a name in it, and has brackets of its own."""
    return re.sub(r"([\\<*`|~$&]|\](?=\())", r"\\\1", name)
