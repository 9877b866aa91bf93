"""`mtlsearch sync DIR`: what W&B has not got of a search, read from the experiment's folder, not from W&B's files.

`wandb sync` marks a file as sent although the server refused it, and adds a resumed trial's epochs a second time. So
the server is asked what it has, runs are taken up where it stopped, and it is asked again before anything is noted.
"""

from __future__ import annotations

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.experiment import Facts, TrialFacts
from mtlsearch.tracking.wandb.run import TrialRun
from mtlsearch.tracking.wandb.sent import Extent, Sent
from mtlsearch.tracking.wandb.session import Mirrored, logged_in, short, silence


def check_login(mirrored: Mirrored) -> None:
    """Silences W&B and looks for an API key.

    Raises:
        ConfigError: there is none.
    """
    silence(online=True)
    if not logged_in():
        raise ConfigError(
            f"W&B must know who sends the runs of {mirrored.folder}, but there is no login. Run `wandb login`, or set "
            "WANDB_API_KEY."
        )


def send_trials(mirrored: Mirrored, facts: Facts) -> int:
    """Sends what is missing, once; how many trials that was.

    Raises:
        ConfigError: there is no login.
        MtlsearchError: the server cannot be reached, or does not take everything.
    """
    sent = Sent(mirrored)
    missing = sent.missing({number: _extent(trial) for number, trial in facts.trials.items() if trial.order})
    if not missing:
        return 0
    check_login(mirrored)
    try:
        missing = sent.confirm(missing)
        for number in missing:
            _send(mirrored, facts.folder, facts.trials[number])
        refused = sent.confirm(missing) if missing else {}
    except Exception as error:
        raise MtlsearchError(f"W&B did not take everything: {short(error)}. {_again(mirrored)}") from error
    if refused:
        names = ", ".join(map(str, list(refused)[:10]))
        raise MtlsearchError(
            f"W&B does not have all of {len(refused)} of {len(missing)} trials that were sent ({names}). "
            f"{_again(mirrored)}"
        )
    return len(missing)


def _extent(trial: TrialFacts) -> Extent:
    epoch = trial.epochs[-1].epoch if trial.epochs else 0
    return Extent(epoch, trial.record.state, trial.record.reason)


def _again(mirrored: Mirrored) -> str:
    return f"Nothing is lost; try again later with: {mirrored.sync_command()}"


def _send(mirrored: Mirrored, folder: ExperimentFolder, trial: TrialFacts) -> None:
    assert trial.order is not None
    run = TrialRun.open(mirrored, folder.trial(trial.number), trial.order, trial.parameters, "online")
    run.finish(trial.record)
