"""`mtlsearch leaderboard DIR --wandb`: the view of the experiment's runs in W&B, made from code."""

from __future__ import annotations

import importlib.util
import itertools
import json
from typing import Any

from mtlsearch.errors import ConfigError
from mtlsearch.folder.files import write_whole
from mtlsearch.report.experiment import Facts
from mtlsearch.tracking.wandb.session import Mirrored
from mtlsearch.tracking.wandb.values import setting


def check_installed() -> None:
    """Looks for wandb-workspaces.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise ConfigError(
            "`--wandb` needs the package wandb-workspaces, which is not installed. "
            "Install it: pip install 'mtlsearch[wandb]'"
        )


def build(mirrored: Mirrored, entity: str, facts: Facts) -> Any:
    """The workspace; the server is not asked.

    Args:
        mirrored: the experiment.
        entity: whose project it is.
        facts: its tasks' main metrics are set against the objective and one another; its trials tell which parameters
            vary.
    """
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces import expr

    scores = [f"{task.name}/{task.main_metric}" for task in facts.tasks]
    objective = panels.SummaryMetric("objective")
    axes = [panels.ParallelCoordinatesPlotColumn(panels.Config(setting(name))) for name in _varied(facts)]
    axes += [panels.ParallelCoordinatesPlotColumn(panels.SummaryMetric(name)) for name in scores]
    search = [
        panels.ParallelCoordinatesPlot(
            columns=[*axes, panels.ParallelCoordinatesPlotColumn(objective)], layout=panels.Layout(0, 0, 24, 9)
        ),
        panels.ParameterImportancePlot(with_respect_to="objective", layout=panels.Layout(0, 9, 24, 9)),
    ]
    pairs = [("objective", score) for score in scores] + list(itertools.pairwise(scores))
    scatter = [
        panels.ScatterPlot(title=f"{y} against {x}", x=panels.SummaryMetric(x), y=panels.SummaryMetric(y))
        for x, y in pairs
    ]
    sections = [
        workspaces.Section(name="Search", panels=search, is_open=True),
        workspaces.Section(name="Tasks", panels=scatter, is_open=True),
        workspaces.Section(name="Runs compared", panels=[panels.RunComparer(diff_only="split")], is_open=True),
    ]
    return workspaces.Workspace(
        entity=entity,
        project=mirrored.config.project,
        name=f"{mirrored.name} leaderboard",
        sections=sections,
        runset_settings=workspaces.RunsetSettings(
            filters=[expr.Metric("Group") == mirrored.group, expr.Metric("JobType") != "leaderboard"],
            order=[expr.Ordering(expr.Summary("objective"), ascending=False)],
            pinned_columns=["run:displayName", "summary:objective", "summary:state", *(f"summary:{s}" for s in scores)],
        ),
    )


def _varied(facts: Facts) -> list[str]:
    """Parameters that are not the same in all trials, by flat names."""
    values: dict[str, set[object]] = {}
    trials = facts.of_role("trial")
    for trial in trials:
        for name, value in trial.parameters.items():
            values.setdefault(name, set()).add(value)
    everywhere = {name for name in values if all(name in trial.parameters for trial in trials)}
    return [name for name, found in values.items() if len(found) > 1 or name not in everywhere]


def save(mirrored: Mirrored, workspace: Any) -> str:
    """Saves it as the experiment's one workspace; its URL.

    Raises:
        Exception: whatever wandb raises when the server does not take it.
    """
    noted = mirrored.files / "workspace.json"
    if noted.exists():  # the view is changed, not made again
        found = json.loads(noted.read_bytes())
        workspace._internal_name, workspace._internal_id = found["name"], found["id"]
    workspace.save()
    mirrored.files.mkdir(exist_ok=True)
    write_whole(noted, json.dumps({"name": workspace._internal_name, "id": workspace._internal_id}))
    return str(workspace.url)
