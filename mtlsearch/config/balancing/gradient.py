"""Methods that combine the tasks' gradients at the shared parameters."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mtlsearch.config.base import Config, Search

EXTRA = "mtlsearch[torchjd]"
"""What pip is to install for these methods."""


class PcGradConfig(Config):
    """Conflicting gradients are projected on each other's normal planes (Yu et al., arXiv 2001.06782)."""

    kind: Literal["pcgrad"] = "pcgrad"


class TorchJdConfig(Config):
    """A method of the extra."""

    needs: ClassVar[tuple[str, ...]] = ("torchjd",)
    """Packages that must be there. All ask for TorchJD, those too whose formula is solved here: the extra's methods are
    there together or not at all."""


class CaGradConfig(TorchJdConfig):
    """The worst task's gain, near the mean gradient (Liu et al., arXiv 2110.14048)."""

    needs: ClassVar[tuple[str, ...]] = ("torchjd", "cvxpy", "clarabel")

    kind: Literal["cagrad"] = "cagrad"
    c: Annotated[float, Field(ge=0, lt=10), Search({"float": [0.1, 0.9]})] = 0.5
    """Radius around the mean gradient, as a share of its norm."""


class MgdaConfig(TorchJdConfig):
    """The shortest vector in the gradients' convex hull (Désidéri 2012; Sener and Koltun, arXiv 1810.04650)."""

    kind: Literal["mgda"] = "mgda"


class ImtlGConfig(TorchJdConfig):
    """Equal projections on all gradients (Liu et al., ICLR 2021)."""

    kind: Literal["imtl_g"] = "imtl_g"


class NashMtlConfig(TorchJdConfig):
    """The Nash bargaining solution (Navon et al., arXiv 2202.01017)."""

    kind: Literal["nash_mtl"] = "nash_mtl"


class AlignedMtlConfig(TorchJdConfig):
    """Gradients' principal components aligned (Senushkin et al., arXiv 2305.19000)."""

    kind: Literal["aligned_mtl"] = "aligned_mtl"


class UpGradConfig(TorchJdConfig):
    """The mean of gradients that conflict with none (Quinton and Rey, arXiv 2406.16232)."""

    kind: Literal["upgrad"] = "upgrad"


class GradDropConfig(TorchJdConfig):
    """Signs of gradients drawn by their purity, position by position (Chen et al., arXiv 2010.06808)."""

    kind: Literal["graddrop"] = "graddrop"


class FairGradConfig(TorchJdConfig):
    """α-fair gains (Ban and Ji, arXiv 2402.15638)."""

    kind: Literal["fairgrad"] = "fairgrad"
    alpha: Annotated[float, Field(gt=0, le=10), Search({"float": [0.5, 4.0]})] = 2.0
    """Fairness: towards 0 the plain sum, 1 is proportional, which is `nash_mtl`, large is max-min."""


def missing_extra(config: Config) -> str | None:
    """What the method cannot run without and how to get it; None where it can run.

    It imports what a method of the extra needs, and for other methods nothing.
    """
    if not isinstance(config, TorchJdConfig):
        return None
    faults = {package: fault for package in config.needs if (fault := _fault(package)) is not None}
    if not faults:
        return None
    kind = type(config).model_fields["kind"].default
    broken = [f"{package} cannot be imported ({fault})" for package, fault in faults.items() if fault]
    if broken:
        wrong, again = f", but {' and '.join(broken)}", ", with --force-reinstall where it is broken"
    else:
        wrong, again = f", which {'is' if len(faults) == 1 else 'are'} not installed", ""
    return (
        f"balancing `{kind}` needs {' and '.join(faults)}{wrong}. Run `pip install '{EXTRA}'`{again}, or choose "
        "another method: `pcgrad` needs nothing more."
    )


@cache
def _fault(package: str) -> str | None:
    """Why a package cannot be used: nothing (an empty text) where it is absent, None where it can be.

    Only an import tells: what is half installed, or for another release of numpy, can be found all the same.
    """
    try:
        if find_spec(package) is None:
            return ""
        import_module(package)
    except ModuleNotFoundError as error:
        return "" if error.name == package else str(error)
    except Exception as error:  # noqa: BLE001  # whatever a broken package raises, the message is for its user
        return f"{type(error).__name__}: {error}"
    return None
