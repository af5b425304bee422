"""The page's look and its one script, which sorts tables where JavaScript runs."""

CSS = """
:root { color-scheme: light dark; --paper: #fcfbf9; --card: #fff; --ink: #1d2127; --soft: #5d6672; --rule: #e3e0da;
  --le: #cf5300; --plain: #47749f; --baseline: #a3abb5; --control: #8a63b8; --up: 21, 128, 97; --down: 190, 52, 85;
  --seed: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1b1f25; --ink: #e8e6e1; --soft: #9aa4b0;
  --rule: #30363e; --le: #ff8f45; --plain: #7fa9d1; --baseline: #66707c; --control: #b795e0; --up: 52, 190, 146;
  --down: 240, 98, 130; --seed: #14171b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
main { max-width: 1160px; margin: 0 auto; padding: 40px 20px 80px; }
h1 { font-size: clamp(28px, 5vw, 44px); line-height: 1.1; letter-spacing: -.02em; margin: 0 0 10px; }
h2 { font-size: 24px; letter-spacing: -.01em; margin: 0 0 6px; line-height: 1.25; }
h3 { font-size: 16px; margin: 0 0 4px; }
section { margin-top: 56px; padding-top: 24px; border-top: 1px solid var(--rule); }
p { max-width: 74ch; margin: 0 0 12px; }
.lead, .note, .missing, footer { color: var(--soft); }
.note, .missing, footer { font-size: 14px; } .note { margin-top: 8px; } footer { margin-top: 56px; }
.missing { margin-top: 24px; border-left: 3px solid var(--rule); padding-left: 12px; }
.verdict { font-size: 20px; line-height: 1.45; max-width: 64ch; margin: 18px 0 0; }
.warning { border-left: 4px solid var(--le); padding: 2px 0 2px 14px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 18px 12px; margin: 28px 0
  0; }
.facts div { border-top: 2px solid var(--ink); padding-top: 8px; }
.facts dt { color: var(--soft); font-size: 13px; }
.facts dd { margin: 0; font-size: 24px; font-weight: 650; letter-spacing: -.01em; line-height: 1.2; }
.made { margin: 22px 0 0; font-size: 14px; color: var(--soft); display: flex; flex-wrap: wrap; gap: 4px 22px;
  padding: 0; }
.made li { list-style: none; } .made b { color: var(--ink); font-weight: 600; }
nav { margin-top: 22px; font-size: 14px; display: flex; flex-wrap: wrap; gap: 4px 16px; }
a { color: var(--plain); text-underline-offset: 3px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; margin: 0 0 8px; color: var(--soft);
  padding: 0; }
.legend li { list-style: none; }
.mark { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; background:
  var(--c); }
.le { --c: var(--le); } .plain { --c: var(--plain); } .baseline { --c: var(--baseline); } .control { --c:
  var(--control); }
.two { display: grid; grid-template-columns: minmax(0, 1fr); gap: 28px 40px; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 14px 12px; }
.cards { display: grid; grid-template-columns: minmax(0, 1fr); gap: 20px; margin-top: 16px; }
@media (min-width: 1000px) { .two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .many { grid-template-columns: repeat(auto-fill, minmax(256px, 1fr)); gap: 20px 24px; } }
.narrow { display: none; }
figure { margin: 16px 0 0; min-width: 0; }
figure + figure { margin-top: 28px; } .two > figure + figure { margin-top: 16px; }
figcaption { font-weight: 600; margin-bottom: 8px; }
svg { display: block; max-width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--ink); stroke: var(--paper); stroke-width: 4px; paint-order: stroke;
  stroke-linejoin: round; }
svg .tick { fill: var(--soft); } svg .number { font-variant-numeric: tabular-nums; }
svg .name { fill: var(--c, var(--ink)); font-weight: 600; }
.grid { stroke: var(--rule); } .zero { stroke: var(--soft); } .diagonal { stroke: var(--soft); stroke-dasharray: 4
  4; }
.fill { fill: var(--c); } .whisker { stroke: var(--ink); stroke-width: 1.5; }
.seed { fill: var(--seed); stroke: var(--ink); stroke-width: 1.2; } .point { fill: var(--c); }
.path { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round; }
.area { fill: var(--c); opacity: .8; } .median { stroke: var(--ink); stroke-width: 2; }
.scroll { overflow-x: auto; margin-top: 10px; }
table { border-collapse: collapse; font-size: 14px; line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: right; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
th.t, td.t { text-align: left; } td.n { white-space: nowrap; } * + th.t, td.t { padding-left: 14px; }
details table { font-size: 13px; } details th, details td { padding-right: 9px; } tbody th { font-weight: 500; }
  thead th { color: var(--soft); font-weight: 600; font-size: 13px; }
.full table, table.full { width: 100%; } .sortable th button { all: unset; cursor: pointer; }
.sortable th button:focus-visible { outline: 2px solid var(--plain); }
th[aria-sort="ascending"] button::after { content: " ↑"; } th[aria-sort="descending"] button::after { content: " ↓"; }
.heated td, .heated th { padding: 5px 8px; } .heated th.t { padding-left: 0; } .heated { width: 100%; }
.heat.up { background: rgba(var(--up), calc(var(--h) * .55)); } .heat.down { background: rgba(var(--down),
  calc(var(--h) * .5)); }
details { margin-top: 8px; font-size: 14px; } summary { cursor: pointer; color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 20px; min-width: 0; }
.card h3 span { color: var(--soft); font-weight: 400; }
.lists { display: grid; grid-template-columns: minmax(0, 1fr); gap: 18px 28px; margin-top: 14px; }
@media (min-width: 860px) { .lists { grid-template-columns: 1.15fr 1fr 1fr; } }
.lists h4 { margin: 0 0 6px; font-size: 13px; color: var(--soft); font-weight: 600; }
ol.items { margin: 0; padding: 0; font-size: 14px; line-height: 1.4; } .items li { list-style: none; display: flex;
  gap: 8px;
  justify-content: space-between; padding: 3px 0; border-bottom: 1px solid var(--rule); }
.items small { color: var(--soft); white-space: nowrap; font-size: 12px; } .items span { min-width: 0; }
.hit { font-weight: 700; } .hit span::before { content: "✓ "; color: rgb(var(--up)); }
.next { margin: 10px 0 0; } .next b { border-bottom: 2px solid rgb(var(--up)); }
@media (max-width: 620px) { .wide { display: none; } .narrow { display: block; } .extra { display: none; }
  main { padding-top: 24px; } section { margin-top: 40px; } .verdict { font-size: 18px; }
  table { font-size: 13px; } th, td { padding-right: 9px; } .heated th, .heated td { padding: 5px 4px; }
  th.t { overflow-wrap: anywhere; min-width: 112px; } details th.t { min-width: 64px; }
  .card { padding: 14px; } .facts { grid-template-columns:
  repeat(3, 1fr); } }
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, place) => {
    const text = row.cells[place].textContent.replace(/\\u2212/g, "-").replace(/,/g, "");
    const number = parseFloat(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? 1 : -1;
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      body.append(...[...body.rows].sort((a, b) => sign * compare(key(a, place), key(b, place))));
    });
  });
}
"""
