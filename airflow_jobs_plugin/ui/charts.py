"""The two drawings, as inline SVG: a run's items as one bar, and a job's runs over time. Both are said in words too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from airflow_jobs_plugin.control.runs import KINDS, ItemCounts, RunView

#: The order of a bar, from what is over to what is not.
_ORDER = ("succeeded", "failed", "canceled", "retrying", "running", "pending")
_BAR_WIDTH, _BAR_HEIGHT = 200.0, 8.0
_PLOT_WIDTH, _PLOT_HEIGHT = 640, 120


def in_words(counts: ItemCounts) -> str:
    """``12 items: 9 succeeded, 2 failed, 1 running``."""
    if counts.total is None:
        return "no items yet"
    said = ", ".join(f"{many:,} {kind}" for kind in _ORDER if (many := getattr(counts, kind)))
    return f"{counts.total:,} item{'' if counts.total == 1 else 's'}" + (f": {said}" if said else "")


def bar(counts: ItemCounts) -> Markup:
    """A run's items in one bar, each kind with a share of its width. Even one of ten thousand can be seen."""
    total = sum(getattr(counts, kind) for kind in KINDS)
    parts = []
    if total:
        shares = {kind: getattr(counts, kind) / total for kind in _ORDER if getattr(counts, kind)}
        least = 3 / _BAR_WIDTH
        widened = {kind: max(share, least) for kind, share in shares.items()}
        scale = sum(widened.values())
        x = 0.0
        for kind, share in widened.items():
            width = share / scale * _BAR_WIDTH
            parts.append(f'<rect class="k-{kind}" x="{x:.2f}" y="0" width="{width:.2f}" height="{_BAR_HEIGHT:g}"/>')
            x += width
    return Markup(
        f'<svg class="bar" viewBox="0 0 {_BAR_WIDTH:g} {_BAR_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(in_words(counts))}">'
        f'<rect class="k-none" width="{_BAR_WIDTH:g}" height="{_BAR_HEIGHT:g}"/>{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class Plot:
    """The drawing, and what it says."""

    svg: Markup
    longest: float
    """Seconds: the height of the drawing."""


def plot(runs: Sequence[RunView]) -> Plot | None:
    """Durations and outcomes of runs, the oldest first; None if none of them has begun."""
    begun = [run for run in runs if run.start_time is not None]
    if not begun:
        return None
    durations = [_seconds(run) for run in begun]
    longest = max(*durations, 0.001)
    # As wide as many runs need, but a single one is no wall.
    step = min(_PLOT_WIDTH / len(begun), 40.0)
    bars = []
    for place, (run, seconds) in enumerate(zip(begun, durations, strict=True)):
        height = max(seconds / longest * (_PLOT_HEIGHT - 8), 2.0)
        x, y = place * step + step * 0.1, _PLOT_HEIGHT - height
        failed = run.counts.failed + run.counts.canceled
        share = failed / run.counts.total if run.counts.total and run.status == "COMPLETED" else 0.0
        told = escape(f"{run.id}: {run.status.lower()}, {seconds:.1f} s, {in_words(run.counts)}")
        inner = f'<rect class="s-{run.status}" x="{x:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" height="{height:.1f}"/>'
        if share:
            inner += (
                f'<rect class="k-failed" x="{x:.1f}" y="{y:.1f}" width="{step * 0.8:.1f}" '
                f'height="{height * share:.1f}"/>'
            )
        bars.append(f"<g><title>{told}</title>{inner}</g>")
    ended = sum(run.end_time is not None for run in begun)
    good = sum(run.status in ("SUCCESS", "COMPLETED") for run in begun)
    label = escape(f"Durations of the last {len(begun)} runs; {good} of {ended} that have ended went well")
    svg = Markup(
        f'<svg class="plot" viewBox="0 0 {_PLOT_WIDTH} {_PLOT_HEIGHT}" role="img" aria-label="{label}">'
        f'<line class="axis" x1="0" y1="{_PLOT_HEIGHT - 0.5}" x2="{_PLOT_WIDTH}" y2="{_PLOT_HEIGHT - 0.5}"/>'
        f"{''.join(bars)}</svg>"
    )
    return Plot(svg, longest)


def _seconds(run: RunView) -> float:
    if run.start_time is None:
        return 0.0
    return max(((run.end_time or run.updated_at) - run.start_time).total_seconds(), 0.0)
