"""A drawing of memory over time, as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import ceil

WIDTH, HEIGHT = 900, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50
COLOURS = ("#1f6feb", "#8250df", "#1a7f37")


@dataclass(frozen=True)
class Plot:
    """What to draw; moments in seconds, memory in MB.

    :param lines: of each process, moments and memory.
    :param bands: spans of time to shade.
    :param ticks: moments to mark at the foot.
    """

    lines: list[list[tuple[float, float]]]
    bands: list[tuple[float, float]]
    ticks: list[float]


def drawn(plot: Plot) -> str:
    """Return the drawing."""
    moments, sizes = zip(*chain.from_iterable(plot.lines), strict=True)
    began, minutes, most = moments[0], (moments[-1] - moments[0]) / 60 or 1.0, max(100.0, *sizes)
    step = 50 if most <= 400 else 200

    def x(moment: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (moment - began) / 60 / minutes

    def y(size: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * size / most

    foot = y(0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *(
            f'<rect x="{x(begin):.1f}" y="{TOP}" width="{x(end) - x(begin):.1f}" height="{foot - TOP}" fill="#eaeef2"/>'
            for begin, end in plot.bands
        ),
        *(
            f'<path d="M{LEFT} {y(size):.1f}H{WIDTH - RIGHT}" stroke="#d0d7de"/>'
            f'<text x="{LEFT - 8}" y="{y(size) + 4:.1f}" text-anchor="end">{size}</text>'
            for size in range(0, int(most) + 1, step)
        ),
        *(
            f'<text x="{x(began + 60 * minute):.1f}" y="{foot + 22}" text-anchor="middle">{minute}</text>'
            for minute in range(ceil(minutes))
        ),
        *(f'<path d="M{x(moment):.1f} {foot}v6" stroke="#cf222e"/>' for moment in plot.ticks),
        *(
            f'<polyline fill="none" stroke="{colour}" points="'
            + " ".join(f"{x(moment):.1f},{y(size):.1f}" for moment, size in line)
            + '"/>'
            for line, colour in zip(plot.lines, COLOURS, strict=False)
        ),
        f'<text x="{LEFT}" y="20">MB above the idle process; shaded: waiting for a rate limit; red: faults</text>',
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 10}" text-anchor="middle">minutes</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
