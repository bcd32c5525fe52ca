"""The audit as a part of a page: its cells, and how each strong number is distributed by class."""

import html
from typing import Final

import numpy as np

from tfrecords.audit.audit import Audit, describe

_BINS: Final = 40
_WIDTH, _HEIGHT = 300, 84  # pixels of a drawing
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito


def audit_section(audit: Audit) -> str:
    """Returns HTML, without heading: sentences, the cells, and the distributions."""
    lines = [line for line in describe(audit) if not line.startswith("  ")]
    parts = [f"<p>{_text(line[0].upper() + line[1:])}.</p>" for line in lines if not line.endswith(":")]
    parts.append(_cells(audit))
    parts.append(
        '<div class="images">' + "".join(_distribution(audit, k) for k in audit.strongest) + "</div>"
    )
    return "\n".join(parts)


def _cells(audit: Audit) -> str:
    """Returns the table of classes by what the numbers point to."""
    head = "".join(f"<th>numbers point to {_text(name)}</th>" for name in audit.class_names)
    rows = "".join(
        f"<tr><td>{_text(name)}</td>" + "".join(f"<td>{count:,}</td>" for count in row) + "</tr>"
        for name, row in zip(audit.class_names, audit.cells.tolist(), strict=True)
    )
    return f'<div class="scroll"><table><tr><th>class</th>{head}</tr>{rows}</table></div>'


def _distribution(audit: Audit, k: int) -> str:
    """Returns a drawing of one number's distribution, a line for each class, each of the same area."""
    values, labels = audit.measured.values[:, k], audit.measured.labels
    low, high = np.quantile(values, [0.005, 0.995])
    if high <= low:
        low, high = values.min() - 0.5, values.max() + 0.5
    shown = range(min(len(audit.class_names), len(_COLOURS)))
    shares = [
        np.histogram(values[labels == label].clip(low, high), _BINS, (low, high))[0]
        / max(1, (labels == label).sum())
        for label in shown
    ]
    top = max(float(share.max()) for share in shares) or 1.0
    lines = []
    for label, share in zip(shown, shares, strict=True):
        points = " ".join(
            f"{x * _WIDTH / _BINS:.1f},{_HEIGHT * (1 - value / top):.1f}"
            for bin_number, value in enumerate(share.tolist())
            for x in (bin_number, bin_number + 1)
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[label]}" stroke-width="2"></polyline>'
        )
    names = ", ".join(
        f'<span style="color:{_COLOURS[label]}">{_text(audit.class_names[label])}</span>' for label in shown
    )
    number = audit.numbers[k]
    return (
        f'<figure style="max-width:{_WIDTH + 20}px"><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{_text(number.title)} by class">{"".join(lines)}</svg>'
        f"<figcaption>{_text(number.title)}, {low:.3g} to {high:.3g}: AUROC alone "
        f"{audit.shortcut.single[k]:.3f} ({names})</figcaption></figure>"
    )


def _text(text: str) -> str:
    return html.escape(text)
