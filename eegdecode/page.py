"""The frame of every HTML page we write: one self-contained file, light or dark by the reader's setting, one column on
a phone, no web font."""

from collections.abc import Iterable, Sequence
from html import escape


def page(title: str, sections: Iterable[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """Format a table that scrolls on its own if it is too wide; its first column is the row header."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>{top}</tr>'
        f"</thead>\n<tbody>{body}</tbody></table></div>"
    )


CSS = """
:root {
  --page: #fbfbf9; --card: #ffffff; --ink: #1c1f24; --soft: #5d646e; --rule: #dddfe3;
  --decoded: #0b62c4; --ridge: #b04a00; --heard: #8b929c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1c1f25; --ink: #e9eaed; --soft: #a3aab4; --rule: #343942;
    --decoded: #6cb4ff; --ridge: #ffad66; --heard: #8b929c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 0.75rem; padding-top: 0.9rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 0.25rem; }
p { margin: 0 0 0.75rem; max-width: 44rem; }
.eyebrow, .note, figcaption, .label, .unit, .x, .y, .key, .colours { color: var(--soft); font-size: 0.86rem; }
.eyebrow { margin: 0 0 0.4rem; font-family: ui-monospace, monospace; }
.verdict { font-size: 1.15rem; }
.notice { border-left: 3px solid var(--ridge); padding-left: 0.8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 0.75rem; margin: 0 0 1rem; }
.cards > div { background: var(--card); border: 1px solid var(--rule); border-radius: 0.6rem; padding: 0.9rem 1rem; }
.cards dt { font-weight: 600; }
.cards dd { margin: 0; }
.value { font-size: 2.3rem; line-height: 1.25; font-weight: 650; font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1rem; }
figcaption { margin-top: 0.35rem; max-width: 44rem; }
.scroll { overflow-x: auto; margin-bottom: 0.75rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.4rem 0.6rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 500; }
td.why { text-align: left; white-space: normal; color: var(--ridge); min-width: 18rem; }
tfoot th, tfoot td { font-weight: 650; border-bottom: 0; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.85rem; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); padding: 0.75rem; }
summary { cursor: pointer; margin-top: 1rem; }
ul { padding-left: 1.1rem; max-width: 44rem; }
p, li { overflow-wrap: anywhere; }
.key { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; margin: 0 0 0.5rem; }
.key i { display: inline-block; margin-right: 0.4rem; vertical-align: middle; }
.key i.line { width: 1.5rem; height: 0; border-top: 2.5px solid; }
.key i.line.decoded { color: var(--decoded); }
.key i.line.heard { color: var(--heard); } .key i.line.faint { color: var(--heard); border-top-width: 1px; }

.chart {
  display: grid; grid-template-columns: 2.6rem 1fr; grid-template-rows: 11rem 1.4rem 1.3rem; column-gap: 0.4rem;
}
.chart svg {
  grid-area: 1 / 2; width: 100%; height: 100%; overflow: visible;
  border-left: 1px solid var(--rule); border-bottom: 1px solid var(--rule);
}
.chart path { fill: none; stroke-width: 1.7; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
path.decoded { stroke: var(--decoded); } .chart path.heard { stroke: var(--heard); stroke-width: 2.4; }
.chart path.faint { stroke: var(--heard); stroke-width: 1; opacity: 0.6; }
.chart path.mark { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 4 3; }
.y { grid-area: 1 / 1; position: relative; }
.y span { position: absolute; right: 0; transform: translateY(-50%); }
.x { position: relative; height: 1.4rem; }
.x span { position: absolute; transform: translateX(-50%); }
.chart .x { grid-area: 2 / 2; } .chart .unit { grid-area: 3 / 2; text-align: center; }
.chart img { grid-area: 1 / 2; width: 100%; height: 100%; image-rendering: pixelated; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 0.75rem 1.5rem; }
.pair > div { min-width: 0; }
.pair p { margin: 0 0 0.25rem; }
audio { width: 100%; max-width: 24rem; height: 2.5rem; margin-top: 0.5rem; display: block; }
.colours { display: flex; align-items: center; gap: 0.5rem; margin-top: 0.5rem; }
.colours i { width: 8rem; height: 0.7rem; }
.head { width: 100%; max-width: 26rem; display: block; }
.head .skull { fill: none; stroke: var(--heard); stroke-width: 0.015; }
.head circle.place { stroke: var(--heard); stroke-width: 0.008; }
.head text { fill: var(--ink); font-size: 0.07px; text-anchor: middle; }

.dots {
  display: grid; grid-template-columns: fit-content(40%) minmax(0, 1fr); column-gap: 0.8rem; align-items: center;
}
.dots > span { overflow-wrap: anywhere; }
.track { position: relative; height: 1.9rem; border-bottom: 1px solid var(--rule); }
.track i { position: absolute; top: 50%; transform: translate(-50%, -50%); }
.track i.grid { top: 0; height: 100%; transform: none; border-left: 1px solid var(--rule); }
i.decoded:not(.line) { width: 0.7rem; height: 0.7rem; border-radius: 50%; background: var(--decoded); }
i.ridge { width: 1.1rem; height: 1.1rem; border-radius: 50%; border: 2.5px solid var(--ridge); }
i.chance { width: 0; height: 1.2rem; border-left: 2.5px solid var(--ink); }
@media print { body { background: #fff; } h2 { break-after: avoid; } figure, .cards { break-inside: avoid; } }
"""
