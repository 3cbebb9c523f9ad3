"""How the counts are drawn: Vega-Lite, written with Altair.

The pictures hold no data. The page's script gives each its rows, again whenever a filter changes,
the width that there is, and the colours that ``kind-0`` and so on stand for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt

LIGHT = ("#d55e00", "#0072b2", "#b57f00", "#a2438a", "#00805f", "#5c5c5c", "#7a5195")
DARK = ("#ff8a3d", "#56b4e9", "#f0c24b", "#e58fc4", "#35c79b", "#b4b4b4", "#b79ced")
"""A colour for each kind of event, after Okabe and Ito: told apart by colour-blind people too."""

_INTERVAL = alt.Scale(
    type="utc", domainMin=alt.expr("shown_from"), domainMax=alt.expr("shown_to"), nice=False
)
_FORMAT = """utcFormat(datum.value, shown_to - shown_from > 172800000 ? '%d %b %H:%M'
  : shown_to - shown_from > 3600000 ? '%H:%M' : datum.value % 1000
  ? '%H:%M:%S.%L' : '%H:%M:%S')"""
_TIMES = alt.Axis(
    title=None, labelOverlap=True, labelFlush=True, tickCount={"expr": "ticks"},
    labelExpr=" ".join(_FORMAT.split()),
)  # fmt: skip
_COUNTS = alt.Axis(title=None, tickCount=3, format=",~f", tickMinStep=1, grid=True)


def pictures(kinds: Iterable[str], span: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """Return the Vega-Lite specifications of all pictures, by name.

    Args:
        kinds: of events, in the order of their colours.
        span: first and last moment, ms since 1970.
    """
    color = _color(list(kinds))
    bounds = [
        alt.param(name="shown_from", value=span[0]),
        alt.param(name="shown_to", value=span[1]),
        alt.param(name="ticks", value=8),
    ]
    charts = {
        "overview": _overview(color).add_params(*bounds),
        "causes": _causes(color).add_params(*bounds),
        "ranking": _ranking(color),
        "queues": _queues().add_params(*bounds),
    }
    return {name: _plain(chart) for name, chart in charts.items()}


def _plain(chart: Any) -> dict[str, Any]:
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)  # the page has one for each theme
    return spec


def _color(kinds: list[str]) -> alt.Color:
    ranges = [f"kind-{number % len(LIGHT)}" for number in range(len(kinds))]
    return alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=ranges), legend=None)


def _bars(color: alt.Color) -> Any:
    """Return bars whose ends are in the rows, stacked: so many events from `start` to `end`."""
    return (
        alt.Chart(alt.NamedData("rows"))
        .mark_rect(clip=True)
        .encode(
            x=alt.X("start:T", scale=_INTERVAL, axis=_TIMES, bandPosition=0),
            x2="end:T",
            y=alt.Y("low:Q", axis=_COUNTS, scale=alt.Scale(zero=True, nice=True)),
            y2="high:Q",
            color=color,
            tooltip=[
                alt.Tooltip("when:N", title="time"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("events:Q", format=","),
            ],
        )
    )


def _overview(color: alt.Color) -> Any:
    brush = alt.selection_interval(name="brush", encodings=["x"])
    return (
        _bars(color)
        .add_params(brush)
        .properties(height=90, description="All events over time, by kind. A range can be chosen.")
    )


def _causes(color: alt.Color) -> Any:
    chart = _bars(color).properties(height=46)
    chart.encoding.tooltip = [
        alt.Tooltip("when:N", title="time"),
        alt.Tooltip("label:N", title="cause"),
        alt.Tooltip("events:Q", format=","),
    ]
    return (
        chart.facet(
            row=alt.Row(
                "label:N",
                sort=alt.EncodingSortField("order", op="min"),
                header=alt.Header(
                    title=None, labelOrient="top", labelAnchor="start", labelAngle=0, labelPadding=2
                ),
            ),
            spacing=14,
        )
        .resolve_scale(y="independent")
        .properties(description="Events over time, one row for each cause.")
    )


def _ranking(color: alt.Color) -> Any:
    return (
        alt.Chart(alt.NamedData("rows"))
        .mark_bar()
        .encode(
            y=alt.Y(
                "value:N",
                sort=alt.EncodingSortField("order", op="min"),
                axis=alt.Axis(title=None, labelLimit=180, ticks=False, domain=False),
            ),
            x=alt.X(
                "events:Q", axis=alt.Axis(title="events", format=",~f", tickCount=4, tickMinStep=1)
            ),
            color=color,
            tooltip=[
                alt.Tooltip("value:N", title="what"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("events:Q", format=","),
            ],
        )
        .properties(
            height=22,
            description="The most frequent values, by kind of event.",
        )
    )


def _queues() -> Any:
    base = alt.Chart().encode(x=alt.X("at:T", scale=_INTERVAL, axis=_TIMES))
    tooltip = [
        alt.Tooltip("when:N", title="time"),
        alt.Tooltip("waiting:Q", title="waiting for accept"),
        alt.Tooltip("backlog:Q", title="limit (backlog)"),
        alt.Tooltip("syn_queue:Q", title="SYN queue"),
    ]
    axis = alt.Axis(title=None, tickCount=3, tickMinStep=1)
    waiting = base.mark_area(
        interpolate="step-after", clip=True, line=True, opacity=0.5, color="kind-1"
    ).encode(y=alt.Y("waiting:Q", axis=axis), tooltip=tooltip)
    limit = base.mark_line(
        interpolate="step-after", clip=True, strokeDash=[5, 4], color="kind-0"
    ).encode(y="backlog:Q")
    points = base.mark_circle(clip=True, size=26, color="kind-1", opacity=1).encode(
        y="waiting:Q", tooltip=tooltip
    )
    return (
        alt.layer(waiting, limit, points)
        .properties(height=60)
        .facet(
            data=alt.NamedData("rows"),
            row=alt.Row(
                "label:N",
                sort=alt.EncodingSortField("order", op="min"),
                header=alt.Header(
                    title=None, labelOrient="top", labelAnchor="start", labelAngle=0, labelPadding=2
                ),
            ),
            spacing=14,
        )
        .resolve_scale(y="independent")
        .properties(description="Connections waiting for accept, and the limit, by listener.")
    )
