"""Colours of charts: fixed ones for files, style-sheet variables for the page, which is light or dark."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """
    Colours of a chart.

    Attributes:
        ink (`str`): text.
        rule (`str`): axes and grid.
        muted (`str`): what remains of a whole.
        series (`tuple[str, ...]`): curves of runs, distinguishable also with colour blindness.
        parts (`tuple[str, ...]`): metrics of one run, likewise; not mistaken for runs.
    """

    ink: str
    rule: str
    muted: str
    series: tuple[str, ...]
    parts: tuple[str, ...]


LIGHT = Theme(
    ink="#1f2328",
    rule="#d5d9de",
    muted="#a9b0b8",
    # Okabe and Ito's palette, without its yellow, which is too pale on white.
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6f76"),
    # Paul Tol's muted scheme.
    parts=("#44aa99", "#332288", "#882255", "#ddcc77", "#88ccee", "#117733"),
)

DARK = Theme(
    ink="#e4e7eb",
    rule="#3a4048",
    muted="#6d757e",
    series=("#4da3e0", "#f28a4b", "#2fc296", "#e09cc3", "#f2b84b", "#8fd0f5", "#a2a8b0"),
    parts=("#55bdab", "#8f86dd", "#c8699a", "#e3d388", "#9bd4f0", "#4dae6c"),
)

PLACEHOLDERS = Theme(
    ink="#010101",
    rule="#020202",
    muted="#030303",
    series=tuple(f"#0400{number:02x}" for number in range(len(LIGHT.series))),
    parts=tuple(f"#0500{number:02x}" for number in range(len(LIGHT.parts))),
)
"""Colours that stand for variables: see [`with_variables`]."""


def variables(theme: Theme) -> str:
    """The theme as declarations of a style sheet."""
    named = {"ink": theme.ink, "rule": theme.rule, "muted": theme.muted}
    for kind in ("series", "parts"):
        named |= {f"{kind}-{number}": color for number, color in enumerate(getattr(theme, kind))}
    return " ".join(f"--{name}: {color};" for name, color in named.items())


def with_variables(svg: str) -> str:
    """Puts the variables of the page's style sheet in the place of [`PLACEHOLDERS`]."""
    names = {PLACEHOLDERS.ink: "ink", PLACEHOLDERS.rule: "rule", PLACEHOLDERS.muted: "muted"}
    for kind in ("series", "parts"):
        names |= {color: f"{kind}-{number}" for number, color in enumerate(getattr(PLACEHOLDERS, kind))}
    return re.sub("|".join(names), lambda match: f"var(--{names[match[0]]})", svg)
