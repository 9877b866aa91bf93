"""Where a report goes: DIR/report.html or DIR/plots unless told otherwise.

Those two are ours and are replaced each time. What a user names is replaced only where he says so.
"""

from __future__ import annotations

from pathlib import Path

from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import write_whole
from mtlsearch.report.experiment import read_experiment_facts


def write_report(folder: ExperimentFolder, out: Path | None = None, *, force: bool = False) -> Path:
    """One HTML file.

    Raises:
        ConfigError: `out` cannot be written, or is there already, or a file of the experiment is damaged.
    """
    from mtlsearch.report.html import report_html

    path = folder.path / "report.html"
    if out is not None:
        if out.is_dir():
            raise ConfigError(f"--out must be a file, but {out} is a folder. Write --out {out / 'report.html'}.")
        path = _checked(out, force=force)
    write_whole(path, report_html(read_experiment_facts(folder)))
    return path


def write_plots(folder: ExperimentFolder, out: Path | None = None, *, force: bool = False) -> list[Path]:
    """A PNG a chart that has something to show, in the folder `out`.

    Raises:
        ConfigError: as of a report.
    """
    from mtlsearch.report.charts import charts
    from mtlsearch.report.png import write_pngs

    target = folder.path / "plots" if out is None else _checked(out, force=force)
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out must be a folder for the pictures, but {target} is a file. Choose another.")
    return write_pngs(charts(read_experiment_facts(folder)), target)


def _checked(out: Path, *, force: bool) -> Path:
    if not out.absolute().parent.is_dir():
        raise ConfigError(
            f"--out must be in a folder that exists, but {out.absolute().parent} does not. Make it first."
        )
    if out.exists() and not force and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"--out {out} exists. Choose another, or replace it with --force.")
    return out
