"""The cells as lines of text and as a section of the page; both are made from the content of report.json."""

from collections.abc import Mapping
from html import escape
from typing import Any

from tfrecords.text.names import isolated
from trainer.evaluation.page import interval_text, short_name

Content = Mapping[str, Any]


def shortcut_lines(content: Content) -> list[str]:
    """Returns the section as text."""
    if "missing" in content:
        return [f"no shortcut audit: {content['missing']}"]
    lines = [
        f"shortcut audit, by numbers of the whole image that carry no anatomy: {_numbers(content)}",
        f"  accuracy on images that agree with the numbers      {_figures(content['agreeing'])}",
        f"  accuracy on images that contradict the numbers      {_figures(content['contradicting'])}",
    ]
    lines += [
        f"    {short_name(cell['class'])}, numbers {_agree(cell)}: {_figures(cell)}"
        for cell in content["cells"]
    ]
    return [*lines, f"  {content['meaning']}"]


def shortcut_section(content: Content) -> list[str]:
    """Returns the section as HTML, part by part."""
    title = "<h2>Shortcut audit</h2>"
    if "missing" in content:
        return [title, f"<p>Not made: {escape(content['missing'])}.</p>"]
    names = list(dict.fromkeys(cell["class"] for cell in content["cells"]))
    by = {(cell["class"], cell["agrees"]): cell for cell in content["cells"]}
    rows = [(isolated(name), by[name, True], by[name, False]) for name in names]
    rows.append(("All", content["agreeing"], content["contradicting"]))
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{_cell(agree)}{_cell(against)}</tr>'
        for name, agree, against in rows
    )
    return [
        title,
        f"<p>{escape(content['meaning'])}</p>",
        '<div class="sheet"><table><thead><tr><th scope="col">Accuracy of the model</th>'
        '<th scope="col">numbers agree with the label</th>'
        f'<th scope="col">numbers contradict it</th></tr></thead><tbody>{body}</tbody></table></div>',
        f'<p class="faint">{escape(_explained(content))}</p>',
    ]


def _explained(content: Content) -> str:
    return (
        f"The numbers are those of the whole image that carry no anatomy, such as exposure, black level, "
        f"sharpness and borders: {_numbers(content)}."
    )


def _numbers(content: Content) -> str:
    return (
        f"a logistic regression, fitted to {content['learned_from']:,} train originals, predicts the "
        f"class here with an AUROC of {interval_text(content['auroc'])}; strongest: "
        f"{', '.join(content['strongest'])}"
    )


def _agree(cell: Content) -> str:
    return "agree" if cell["agrees"] else "contradict"


def _figures(cell: Content) -> str:
    if cell["accuracy"] is None:
        return "no records"
    return f"{interval_text(cell['accuracy'])} ({cell['records']:,} records)"


def _cell(cell: Content) -> str:
    if cell["accuracy"] is None:
        return '<td class="number">no records</td>'
    value, _, interval = interval_text(cell["accuracy"]).partition(" ")
    counts = f"{cell['records']:,} records of {cell['groups']:,} groups"
    return f'<td class="number"><b>{value}</b>{interval}<span class="what">{counts}</span></td>'
