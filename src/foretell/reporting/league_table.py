"""The league's table: a row for each method, a column for each dataset, from the evaluation records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretell.core.seeding import stream
from foretell.reporting.league_plan import OPTIMUM, REFERENCES, LeaguePlan, league_plan
from foretell.reporting.records import PolicyScores, scores_by_policy
from foretell.reporting.statistics import estimate_difference
from foretell.reporting.tables import (
    check_policies,
    difference_cell,
    interval_phrase,
    markdown_table,
    mean_cell,
    measured_phrase,
    quick_lines,
    table_row,
)

Row = Mapping[str, Any]

SOURCE = "league.jsonl"

NOTHING = "—"
"""A cell without a policy."""

DATA = "the data themselves"
"""The row of what the episodes that were learned from earned."""


@dataclass(frozen=True, kw_only=True, eq=False)
class League:
    """What the league's table and figures show; returns and regrets in reward units."""

    plan: LeaguePlan
    protocol: Mapping[str, Any]
    rows: Sequence[Row]
    """The rows of `league.json`: references first, then an entry each."""
    data_means: Mapping[str, float]
    """Mean episode return of each dataset that has a card."""

    def reference(self, name: str) -> Row:
        """Return the row of one of `REFERENCES`."""
        return next(row for row in self.rows if row["name"] == name)

    def row(self, method: str, dataset: str) -> Row | None:
        """Return the row of a method on a dataset; None where there is no such entry."""
        return next((row for row in self.rows if (row["name"], row["dataset"]) == (method, dataset)), None)

    def best(self, dataset: str) -> Row | None:
        """Return the row of the method with the highest mean return on a dataset; the first of equal ones."""
        rows = [row for row in self.rows if row["dataset"] == dataset]
        return max(rows, key=lambda row: row["mean_return"], default=None)


def build_league(
    records: Sequence[Mapping[str, Any]], experiment: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]
) -> League:
    """Return the league of an experiment: a row for random, SAC and the optimum, then for each entry.

    A row has the keys of `foretell.reporting.tables.build_table`, and a policy that stands in both tables has the same
    numbers in both. `name` is the method's, `policy` the policy's own. Of start state n, with the optimum's return
    $o_n$ and the policy's $x_{sn}$, the regret is $o_n - x_{sn}$: `regret` is its mean over seeds and starts,
    `regret_ci95` the paired bootstrap interval, `regret_by_start` the mean over seeds for each start state, in their
    order.
    `difference_to_data` is the mean return minus that of the dataset's episodes, None without a card of it.

    Raises `CheckpointError` where the plan is not whole (`league_plan`), an entry or a reference has no records,
    records belong to no entry, start states are missing or doubled, or their number or the seeds are not the
    protocol's.
    """
    plan = league_plan(experiment)
    protocol = {**experiment["protocol"], "quick": bool(experiment["quick"])}
    scores = scores_by_policy(records, SOURCE)
    policies = [*REFERENCES, *(entry.policy for entry in plan.entries)]
    trained = [entry.policy for entry in plan.entries]
    check_policies(scores, policies, protocol, trained=trained, source=SOURCE, place="league entry")
    data_means = {name: mean for name in plan.datasets if (mean := _data_mean(cards.get(name))) is not None}
    reports = {row["name"]: row["report"] for row in experiment["rows"]}
    heads: list[dict[str, Any]] = [
        {"name": name, "dataset": None, "algorithm": name, "policy": name, "label": label}
        for name, label in REFERENCES.items()
    ]
    for entry in plan.entries:
        head = {"name": entry.method.name, "dataset": entry.dataset, "algorithm": entry.method.algorithm}
        told = {"condition": entry.method.condition, "label": entry.method.label}
        heads.append({**head, "policy": entry.policy, **told})
    rows = [_row({**head, "report": reports.get(head["policy"])}, scores, protocol, data_means) for head in heads]
    return League(plan=plan, protocol=protocol, rows=rows, data_means=data_means)


def _data_mean(card: Mapping[str, Any] | None) -> float | None:
    mean = ((card or {}).get("returns") or {}).get("mean")
    return float(mean) if isinstance(mean, int | float) else None


def _row(
    head: Mapping[str, Any],
    scores: Mapping[str, PolicyScores],
    protocol: Mapping[str, Any],
    data_means: Mapping[str, float],
) -> dict[str, Any]:
    policy = head["policy"]
    row = table_row(head, policy, scores, protocol)
    optimum, own = scores[OPTIMUM].returns, scores[policy].returns
    generator = stream(int(protocol["root_seed"]), f"league/regret/{policy}")
    regret = estimate_difference(optimum, own, samples=int(protocol["bootstrap_samples"]), generator=generator)
    data_mean = data_means.get(head["dataset"])
    return {
        **row,
        "policy": policy,
        "regret": regret.value,
        "regret_ci95": [regret.low, regret.high],
        # Adding 0.0 turns a rounded -0.0 into 0.0.
        "regret_by_start": [round(float(each), 3) + 0.0 for each in optimum.mean(axis=0) - own.mean(axis=0)],
        "difference_to_data": None if data_mean is None else round(row["mean_return"] - data_mean, 9),
    }


def render_league(league: League) -> str:
    """Return the league for GitHub: returns with their differences to SAC, then regrets, a caption below each."""
    head = ("method", *league.plan.datasets)
    returns = [*_method_cells(league, _return_cell), *_reference_cells(league, _return_cell, REFERENCES)]
    data = [league.data_means.get(dataset) for dataset in league.plan.datasets]
    returns.append((DATA, *(NOTHING if mean is None else f"{mean:.1f}" for mean in data)))
    others = [name for name in REFERENCES if name != OPTIMUM]
    regrets = [*_method_cells(league, _regret_cell), *_reference_cells(league, _regret_cell, others)]
    lines = [*quick_lines(league.protocol), *markdown_table(head, returns, text_columns=1), ""]
    lines += [league_sentence(league.protocol), "", "Regret:", ""]
    return "\n".join([*lines, *markdown_table(head, regrets, text_columns=1), "", REGRET_SENTENCE, ""])


def _method_cells(league: League, cell: Callable[[Row, bool], str]) -> Iterable[tuple[str, ...]]:
    best = [league.best(dataset) for dataset in league.plan.datasets]
    for method in league.plan.methods:
        rows = [league.row(method.name, dataset) for dataset in league.plan.datasets]
        yield method.label, *(NOTHING if row is None else cell(row, row in best) for row in rows)


def _reference_cells(
    league: League, cell: Callable[[Row, bool], str], names: Iterable[str]
) -> Iterable[tuple[str, ...]]:
    for name in names:
        yield REFERENCES[name], *([cell(league.reference(name), False)] * len(league.plan.datasets))


def _return_cell(row: Row, best: bool) -> str:
    mean = f"**{mean_cell(row)}**" if best else mean_cell(row)
    return f"{mean}<br>{difference_cell(row)}"


def _regret_cell(row: Row, best: bool) -> str:
    cell = f"{row['regret']:.1f} [{row['regret_ci95'][0]:.1f}, {row['regret_ci95'][1]:.1f}]"
    return f"**{cell}**" if best else cell


def league_sentence(protocol: Mapping[str, Any]) -> str:
    """Return the protocol as the league's caption: what was measured, and what each cell holds."""
    return (
        f"{measured_phrase(protocol)}; asked return, of the methods that are told one: {protocol['target_rule']}. Each "
        "cell: mean return [95% interval], below it the difference to SAC, paired by start state [95% interval]. "
        f"{interval_phrase(protocol)}. Bold: the highest mean of the methods on a dataset. {DATA.capitalize()}: mean "
        "return of the dataset's episodes, which have start states of their own."
    )


REGRET_SENTENCE = (
    "Regret: the optimum's return minus the policy's own from the same start state, mean over training seeds and start "
    "states [95% interval]; lower is better."
)
