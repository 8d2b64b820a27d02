"""The report's style sheet: one column that widens into grids, light and dark, no external resource."""

CSS = """
:root{--bg:#fff;--fg:#1b1f24;--soft:#5b6570;--line:#d9dee3;--card:#f6f8fa;--good:#116329;--bad:#a40e26;--link:#0550ae}
@media(prefers-color-scheme:dark){:root{--bg:#0f1419;--fg:#e6e9ec;--soft:#9aa5b1;--line:#2d353d;--card:#171d24;--good:#57d28a;
--bad:#ff8a8a;--link:#79b8ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1480px;padding:24px clamp(14px,3vw,40px) 64px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:.2em 0 .1em}
h2{font-size:1.3rem;margin:2.2em 0 .4em;padding-top:.6em;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.6em 0 .5em;overflow-wrap:anywhere}
h3 small,.sub,.lead,.foot,figcaption,td small,th small,.over,dd{color:var(--soft)}
h3 small{font-weight:400;margin-left:.5em}
.sub{margin:0 0 1em}.lead{margin:.2em 0 1em;max-width:80ch}.foot{font-size:.85rem;margin:.6em 0}
nav{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.9rem}nav a{color:var(--link);text-decoration:none}
nav a:hover{text-decoration:underline}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:1.2em 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:1.5rem;line-height:1.25;font-variant-numeric:tabular-nums}
.card span{font-size:.82rem;color:var(--soft)}
.curves{margin:.6em 0}
.curves img{display:block;width:100%;max-width:1180px;height:auto;background:#fff;border-radius:8px}
.curves figcaption{max-width:110ch}
.unit{color:var(--soft);font-weight:400;white-space:nowrap}.unit small{display:inline}
.scroll{overflow-x:auto;margin:.6em 0}
table{border-collapse:collapse;font-size:.84rem;font-variant-numeric:tabular-nums;min-width:100%}
th,td{padding:4px 9px;text-align:right;white-space:nowrap;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{border-bottom:2px solid var(--line);vertical-align:bottom;white-space:normal;min-width:5.2em}
td small,th small{display:block;font-size:.78rem;font-weight:400;line-height:1.35}
thead th small{display:inline}
th:first-child{text-align:left;position:sticky;left:0;background:var(--bg)}
.points :is(td,th):nth-child(-n+3),.side :is(td,th):nth-child(-n+2){text-align:left}
.bd tbody th small{display:inline}
tr.start>*{border-top:2px solid var(--line)}tr.anchor th{font-weight:400}
tbody tr:hover>*{background:var(--card)}
.good{color:var(--good)}.bad{color:var(--bad)}.none{color:var(--soft);white-space:normal;display:block;min-width:11em}
.bd td{min-width:11em}.bd .over{font-size:.8rem}
.scene{margin:0 0 2.4em}
.row{display:grid;gap:10px;margin:0 0 12px}
.n2{grid-template-columns:repeat(2,minmax(0,430px))}
.n3{grid-template-columns:repeat(3,minmax(0,1fr))}.n4{grid-template-columns:repeat(4,minmax(0,1fr))}
@media(max-width:760px){.n3,.n4{grid-template-columns:repeat(2,minmax(0,1fr))}}
figure{margin:0}figcaption{font-size:.78rem;line-height:1.4;padding-top:3px}figcaption b{color:var(--fg)}
.pic{position:relative;line-height:0}.pic img{width:100%;height:auto;border-radius:3px}
.flip{cursor:crosshair}.flip:focus{outline:2px solid var(--link);outline-offset:1px}
.flip::after{content:"";position:absolute;inset:0;border-radius:3px;background:var(--o) 0 0/100% 100%;opacity:0}
.flip:hover::after,.flip:focus::after{opacity:1}
dl{display:grid;grid-template-columns:minmax(9em,auto) 1fr;gap:6px 18px;margin:.6em 0}
dt{font-weight:600}dd{margin:0;max-width:85ch}
@media(max-width:600px){dl{display:block}dd{margin:0 0 .6em}}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto;
font-size:.85rem;white-space:pre-wrap;overflow-wrap:anywhere}
ul.missing{padding-left:1.2em}ul.missing li{margin:.3em 0;overflow-wrap:anywhere}
@media print{.flip::after{display:none}.scroll{overflow:visible}body{max-width:none}}
"""
