"""What all HTML pages of the trainer share: the frame, the look, tables and bars; no scripts, no links."""

from collections.abc import Mapping
from html import escape
from typing import Final

CSS: Final = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b2130;
  --faint: #5d6675; --line: #e2e5ea; --accent: #0072b2; --track: #e8ebf0;
  --warn: #fff4dc; --warn-ink: #6b4a00; --warn-line: #f0d48f; }
@media (prefers-color-scheme: dark) { :root { --page: #0e0e0e; --card: #181818; --ink: #ececec;
  --faint: #a3a3a3; --line: #2d2d2d; --accent: #56b4e9; --track: #2d2d2d;
  --warn: #33290f; --warn-ink: #f3d58a; --warn-line: #5c4a1a; }
  figure.chart img { filter: invert(0.905) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 15px/1.55 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 2px 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 40px 0 12px; }
p { margin: 6px 0 12px; max-width: 90ch; }
.over { color: var(--accent); font-weight: 600; font-size: 13px; letter-spacing: 0.06em;
  text-transform: uppercase; }
.faint, figcaption, .what { color: var(--faint); }
.data { font-weight: 600; overflow-wrap: anywhere; }
.notice { background: var(--warn); color: var(--warn-ink); border: 1px solid var(--warn-line);
  border-radius: 10px; padding: 10px 16px; margin: 16px 0 0; max-width: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(205px, 1fr)); gap: 14px;
  margin: 24px 0 0; }
.card, figure, .sheet { background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
.card { padding: 16px 18px; }
.card .name { color: var(--faint); font-size: 13.5px; }
.card .value { font-size: 34px; font-weight: 650; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
.card .range { font-size: 13px; color: var(--faint); font-variant-numeric: tabular-nums; }
.sheet { overflow-x: auto; margin-bottom: 12px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 9px 16px; border-top: 1px solid var(--line);
  vertical-align: top; }
thead th { border-top: 0; font-size: 13px; color: var(--faint); }
tbody th { font-weight: 600; min-width: 9em; }
.what { font-weight: 400; font-size: 13px; display: block; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; min-width: 190px; }
td.number b { font-weight: 650; margin-right: 6px; }
.facts th { white-space: nowrap; width: 1%; }
.facts td { overflow-wrap: anywhere; white-space: pre-wrap; }
.bar { display: block; position: relative; height: 5px; border-radius: 3px; margin-top: 8px;
  background: var(--track); }
.bar i { position: absolute; top: 0; bottom: 0; border-radius: 3px; background: var(--accent);
  opacity: 0.45; min-width: 2px; }
.bar em { position: absolute; top: -3px; width: 3px; height: 11px; margin-left: -1px;
  border-radius: 2px; background: var(--accent); }
.pictures { display: grid; grid-template-columns: 1fr 1fr; gap: 18px; }
figure { margin: 0; padding: 14px; break-inside: avoid; }
figure.wide { grid-column: 1 / -1; }
figure img { display: block; max-width: min(100%, 860px); height: auto; margin: 0 auto;
  border-radius: 6px; }
figcaption { font-size: 13.5px; padding: 10px 4px 2px; }
@media (max-width: 720px) { .what { display: none; } .pictures { grid-template-columns: 1fr; }
  main { padding: 24px 14px 40px; } }
@media print { :root { --page: #fff; --card: #fff; --ink: #000; --faint: #444; --line: #ccc;
    --accent: #0072b2; --track: #e8ebf0; }
  * { print-color-adjust: exact; } figure.chart img { filter: none; }
  main { padding: 0; max-width: none; } body { font-size: 12px; }
  .card, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""


def document(title: str, body: list[str], *, css: str = "") -> str:
    """Returns a page that needs nothing else: the reader's browser may load nothing for it.

    Args:
        title: in the browser's tab.
        body: HTML, part by part.
        css: rules of this page alone, after those of all pages.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def facts_table(facts: Mapping[str, str]) -> str:
    """Returns a table with a row a fact: its name, then its value."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<div class="sheet"><table class="facts"><tbody>{rows}</tbody></table></div>'
