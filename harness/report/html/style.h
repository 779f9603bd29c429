// The style sheet of the page.
#pragma once

#include <string_view>

namespace deltatape::harness::html {

/// Light; dark where the reader's system is; light on paper.
inline constexpr std::string_view kStyle = R"css(
:root{color-scheme:light dark;--page:#f4f5f7;--card:#fff;--ink:#1b2026;--muted:#5b6570;--rule:#dfe3e8;--code:#f0f2f5;
--pass:#137a4b;--pass-soft:#e2f3ea;--fail:#c1281d;--fail-soft:#fdeae8;--less:#a85a00;
--bar-pass:#3a9d74;--bar-fail:#d2402f;--bar-un:#b4bcc6;
--p-fine:#3f78b5;--p-less:#e08a1e;--p-wrong:#c1281d;--z-fine:#cfe2f3;--z-less:#f8dcae;--z-wrong:#f3b6ae;
--m0:#f3f7fb;--m1:#e6eef6;--m2:#d8e5f1;--m3:#c9dbec;--m4:#b9d0e7;--m5:#a8c5e1;--m6:#96b9da;--m7:#83acd2;
--m8:#fde3a7;--m9:#fbcb7a;--m10:#f8b052;--m11:#f29238;--m12:#e67127;--m13:#d14e1e;--m14:#ae2f1a;--m15:#7d1616;
--m16:#b0109b;
--s0:#c1281d;--s1:#2f6fb3;--s2:#188a6a;--s3:#8a4fb0;--s4:#b8760b;--s5:#4c5a67;--other:#b9c0c8}
@media screen and (prefers-color-scheme:dark){:root{--page:#111417;--card:#191d22;--ink:#e7eaee;--muted:#9aa5b1;
--rule:#2d343c;--code:#22272e;--pass:#4cc38a;--pass-soft:#14301f;--fail:#ff7566;--fail-soft:#3a1a17;--less:#f0ad4e;
--bar-pass:#3a9d74;--bar-fail:#e5533f;--bar-un:#59636e;
--p-fine:#6aa5e3;--p-less:#f0a540;--p-wrong:#ff7566;--z-fine:#26435f;--z-less:#5c4418;--z-wrong:#6b2a22;
--m0:#1b2129;--m1:#1d2833;--m2:#1f303f;--m3:#21394c;--m4:#24435a;--m5:#274e6a;--m6:#2b5a7b;--m7:#30678d;
--m8:#5b3a10;--m9:#7c4a0f;--m10:#9f5c10;--m11:#c26f14;--m12:#e08424;--m13:#f39c47;--m14:#fbb973;--m15:#ffdfae;
--m16:#f05fd8;
--s0:#ff7566;--s1:#6aa5e3;--s2:#4cc39b;--s3:#c08be0;--s4:#e0a84a;--s5:#a9b6c3;--other:#4a535d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1200px;margin:0 auto;padding:20px 16px 48px}
section,.banner{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:18px 20px;margin:0 0 16px}
h1{font-size:22px;line-height:1.25;margin:0;overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 4px}
h3{font-size:14px;margin:14px 0 2px;overflow-wrap:anywhere}
p{margin:4px 0 8px}
.note,.sub{color:var(--muted);font-size:13px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:13px}
code{overflow-wrap:anywhere}
pre{background:var(--code);border-radius:6px;padding:10px 12px;margin:6px 0 0;white-space:pre-wrap;
overflow-wrap:anywhere;user-select:all}
.banner{border-left:8px solid var(--pass)}
.banner.failed{border-left-color:var(--fail)}
.banner .verdict{font-size:13px;font-weight:700;letter-spacing:.08em;text-transform:uppercase;color:var(--pass)}
.banner.failed .verdict{color:var(--fail)}
.facts{display:flex;flex-wrap:wrap;gap:8px 32px;margin:14px 0 0}
.facts div{min-width:70px}
.facts dt{color:var(--muted);font-size:12px}
.facts dd{margin:0;font-size:18px;font-variant-numeric:tabular-nums}
.facts .bad{color:var(--fail);font-weight:600}
.failure{border-color:var(--fail)}
.details{display:grid;grid-template-columns:max-content 1fr;gap:6px 18px;margin:10px 0}
.details dt{color:var(--muted)}
.details dd{margin:0;overflow-wrap:anywhere;min-width:0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:8px 24px;align-items:start}
.pair figure{min-width:0;overflow-x:auto}
figure{margin:8px 0 0}
figcaption{font-weight:600;font-size:14px}
.scroll{overflow-x:auto}
svg{display:block}
svg.plot{width:100%;height:auto;max-width:620px}
svg.plot.fixed{width:auto;max-width:none}
svg text{fill:var(--muted);font-size:12px;font-family:inherit}
svg .label{fill:var(--ink)}
svg .end{text-anchor:end}
svg .middle{text-anchor:middle}
.series,.axis,.grid,.border,.halo,.limit,.tick-fine,.tick-wrong,.composed{fill:none;stroke:var(--muted);stroke-width:1}
.grid{stroke:var(--rule)}
.border{stroke:var(--ink);stroke-dasharray:3 3}
.halo{stroke:var(--card);stroke-width:3;stroke-dasharray:none;opacity:.6}
.limit{stroke:var(--ink);stroke-dasharray:5 4}
.m0{fill:var(--m0)}.m1{fill:var(--m1)}.m2{fill:var(--m2)}.m3{fill:var(--m3)}.m4{fill:var(--m4)}.m5{fill:var(--m5)}
.m6{fill:var(--m6)}.m7{fill:var(--m7)}.m8{fill:var(--m8)}.m9{fill:var(--m9)}.m10{fill:var(--m10)}.m11{fill:var(--m11)}
.m12{fill:var(--m12)}.m13{fill:var(--m13)}.m14{fill:var(--m14)}.m15{fill:var(--m15)}.m16{fill:var(--m16)}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}.s5{stroke:var(--s5)}
.cells{shape-rendering:crispEdges}
.series{stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.other{stroke:var(--other);stroke-width:1.2}
.point-fine{fill:var(--p-fine)}.point-less{fill:var(--p-less)}.point-wrong{fill:var(--p-wrong)}
.tick-fine{stroke:var(--ink);stroke-width:1.6}
.tick-wrong{stroke:var(--p-wrong);stroke-width:1.6;stroke-dasharray:4 3}
.zone-fine{fill:var(--z-fine)}.zone-less{fill:var(--z-less)}.zone-wrong{fill:var(--z-wrong)}
.composed{stroke:var(--muted);stroke-width:2}
.here{fill:var(--ink);stroke:var(--card);stroke-width:1.5}
.bar{width:100%;height:8px;border-radius:2px}
.bar-passed{fill:var(--bar-pass)}.bar-failed{fill:var(--bar-fail)}.bar-unsupported{fill:var(--bar-un)}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:8px 0 0;padding:0;font-size:13px;
color:var(--muted)}
ul.legend li{display:flex;align-items:center;gap:6px;overflow-wrap:anywhere}
ul.legend svg{flex:none}
.panels{display:flex;flex-wrap:wrap;gap:12px 28px}
.panel{min-width:0;max-width:100%}
.options{margin:10px 0 0}
.option{display:grid;grid-template-columns:150px 1fr;gap:4px 14px;padding:7px 0;border-top:1px solid var(--rule)}
.option dt{font-weight:600;overflow-wrap:anywhere}
.option dd{margin:0;min-width:0}
ul.cells{list-style:none;display:flex;flex-wrap:wrap;gap:6px;margin:0;padding:0}
ul.cells li{flex:1 1 104px;max-width:190px;padding:3px 7px 5px;border:1px solid var(--rule);border-radius:5px;
font-size:12px;line-height:1.35}
ul.cells li.bad{border-color:var(--bar-fail)}
.value{display:block;font-size:13px;overflow-wrap:anywhere;margin-bottom:3px}
.counts{display:block;color:var(--muted);margin-top:3px}
.counts b{color:var(--fail);font-weight:600}
table{border-collapse:collapse;width:100%;font-size:13px;margin-top:8px}
th,td{text-align:left;vertical-align:top;padding:5px 11px 5px 0;border-bottom:1px solid var(--rule)}
th{color:var(--muted);font-weight:600;white-space:nowrap}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.wide{min-width:220px}
td.words{min-width:170px;overflow-wrap:anywhere}
.tag{display:inline-block;border-radius:4px;padding:0 7px;font-size:12px;font-weight:600;white-space:nowrap;
background:var(--code);color:var(--muted)}
.tag.fine{background:var(--pass-soft);color:var(--pass)}
.tag.less{background:var(--code);color:var(--less)}
.tag.wrong{background:var(--fail-soft);color:var(--fail)}
details summary{cursor:pointer;font-weight:600;font-size:17px}
@media (max-width:760px){main{padding:10px 8px 32px}section,.banner{padding:14px 12px}.pair{grid-template-columns:1fr}
.pair svg.plot{min-width:440px}.option{grid-template-columns:1fr}.details{grid-template-columns:1fr;gap:0}.details dd{margin-bottom:8px}
.facts{gap:8px 22px}}
@media print{*{print-color-adjust:exact;-webkit-print-color-adjust:exact}body{background:#fff;font-size:12px}
main{max-width:none;padding:0}section,.banner{break-inside:avoid-page;border-radius:0}.long{break-inside:auto}
.scroll{overflow:visible}}
)css";

}  // namespace deltatape::harness::html
