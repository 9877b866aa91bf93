"""The final ranking on a terminal: as many tasks as fit; final.json has all."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from mtlsearch.report.final import FinalRanking, FinalRow
from mtlsearch.report.statistics import Interval
from mtlsearch.report.terminal_table import Column, drawn, fitting, heading, short

_GAP = 2


def final_table(ranking: FinalRanking, width: int) -> Table:
    """A row a candidate, best first, then the single-task baselines; means over the seeds ± half of the interval."""
    always = list(_always(ranking))
    tasks = [
        Column(
            heading(f"{task}/{metric}"),
            (*(_plus_minus(row.scores.get(task)) for row in ranking.rows), _plus_minus(ranking.baselines.get(task))),
        )
        for task, metric in ranking.metrics.items()
    ]
    chosen = fitting([*always, *tasks], width, _GAP, len(always))
    table = drawn(chosen, _GAP, num_dim=1)
    if (hidden := len(always) + len(tasks) - len(chosen)) > 0:
        table.caption, table.caption_justify = f"{hidden} more tasks are in final.json", "left"
    return table


def final_notes(ranking: FinalRanking) -> Iterator[str]:
    """What belongs below the table, a sentence each."""
    for row in ranking.rows:
        if row.negative_transfer:
            yield f"trial {row.trial} is worse than the single-task baselines on {', '.join(row.negative_transfer)}"
    if not ranking.complete:
        yield "not all final trials have been scored yet"
    yield from ranking.notes


def _always(ranking: FinalRanking) -> Iterator[Column]:
    rows = ranking.rows
    yield Column("trial", (*(str(row.trial) for row in rows), "baselines"))
    if ranking.metric != "delta":
        yield Column("objective", (*(_plus_minus(row.objective) for row in rows), ""))
    yield Column("Δ", (*(_plus_minus(row.delta) for row in rows), ""))
    yield Column("p", (*("" if row.p_value is None else f"{row.p_value:.2g}" for row in rows), ""))
    yield Column("", (*(_verdict(row, rank) for rank, row in enumerate(rows)), ""))


def _verdict(row: FinalRow, rank: int) -> str:
    if rank == 0:
        return "best"
    return "" if row.p_value is None else "tied" if row.tied else "worse"


def _plus_minus(interval: Interval | None) -> str:
    """`0.8312 ± 0.0041`."""
    if interval is None:
        return ""
    if interval.high is None:
        return short(interval.mean)
    return f"{interval.mean:.4g} ± {interval.high - interval.mean:.2g}"
