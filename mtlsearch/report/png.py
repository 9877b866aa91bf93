"""The charts as PNG files, without a browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import altair as alt
import vl_convert

from mtlsearch.folder.files import write_whole

_CONFIG = {"background": "white", "range": {"ramp": {"scheme": "cividis", "extent": [0.9, 0]}}}
"""The best trials are the darkest, since paper is white."""

_SCALE = 2.0
"""Dots a point."""


def write_pngs(charts: Mapping[str, alt.TopLevelMixin], folder: Path) -> list[Path]:
    """One file a chart, `folder/NAME.png`, each whole."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, chart in charts.items():
        path = folder / f"{name}.png"
        write_whole(path, vl_convert.vegalite_to_png(chart.to_json(), scale=_SCALE, config=_CONFIG))
        paths.append(path)
    return paths
