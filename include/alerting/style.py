"""The looks of the report, in light and dark."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --faint: #667085; --paper: #ffffff; --line: #d9dee7; --soft:
  #f4f6f9; --blue: #1d63d8; --red: #c62f2f; --amber: #c98a00; --green: #17803d; --violet: #7a3fc2; --shade:
  #eaf1fd; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --faint: #98a2b3; --paper: #14171d; --line:
  #363d49; --soft: #1d222b; --blue: #6ea2ff; --red: #ff7b72; --amber: #e3b341; --green: #56d364; --violet:
  #c297ff; --shade: #1a2537; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 1120px; padding: 24px 20px 60px; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 34px 0 8px; }
.verdict { border-left: 6px solid var(--red); background: var(--soft); padding: 14px 18px; margin: 14px 0; }
.verdict.good { border-color: var(--green); }
.verdict b { font-size: 20px; letter-spacing: .3px; }
.verdict ul { margin: 6px 0 0; padding-left: 20px; }
.cause { color: var(--faint); margin-left: 10px; }
.faint { color: var(--faint); fill: var(--faint); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
.wide { overflow-x: auto; }
th, td { text-align: right; padding: 5px 7px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 600; }
td:first-child, th:first-child, td.left, th.left { text-align: left; }
.bad { color: var(--red); font-weight: 600; }
.three { display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; }
@media (max-width: 760px) { .three { grid-template-columns: 1fr; } }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .title { font-weight: 600; }
svg .tick { fill: var(--faint); font-size: 11px; }
svg .number { fill: var(--paper); font-size: 10.5px; font-weight: 700; }
.badge { fill: var(--ink); }
.frame { fill: none; stroke: var(--line); }
.grid { stroke: var(--line); stroke-width: .6; }
.rule { stroke: var(--faint); stroke-dasharray: 5 4; }
.mark { stroke: var(--ink); stroke-width: .7; opacity: .45; }
path { fill: none; stroke-width: 1.8; }
.load { stroke: var(--blue); stroke-width: 2; }
.replicas { stroke: var(--violet); stroke-width: 2.2; }
.hottest { stroke: var(--red); stroke-width: 2.2; }
.one { stroke: var(--faint); stroke-width: .9; opacity: .75; }
.lag { stroke: var(--amber); }
.errors { stroke: var(--red); }
.c0 { stroke: var(--blue); }
.c1 { stroke: var(--green); }
.c2 { stroke: var(--amber); }
.c3 { stroke: var(--violet); }
.c4 { stroke: var(--red); }
.pending { fill: var(--amber); }
.firing { fill: var(--red); }
.told { fill: var(--red); }
.ended { fill: var(--green); }
.quiet { fill: var(--shade); }
.key span { margin-right: 16px; white-space: nowrap; }
.key i { display: inline-block; width: 14px; height: 10px; border-radius: 2px; margin-right: 5px; }
code { font-size: 13px; }
"""
