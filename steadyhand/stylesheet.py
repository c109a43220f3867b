"""Look and behaviour of the report: everything inline, so that the page stands alone."""

STYLE = """
:root{color-scheme:light dark;
--page:#f6f6f3;--card:#ffffff;--ink:#1d2127;--soft:#5d6673;--faint:#8b939f;--rule:#e4e4df;
--grid:#ededea;--accent:#0b7285;--good:#2b8a3e;--warn:#c77700;--bad:#c92a2a;
--good-soft:#2b8a3e14;--bad-soft:#c92a2a14;--warn-soft:#c7770022;--sunk:#f1f1ed;
--c1:#1c7ed6;--c2:#d9480f;--c3:#2b8a3e;--c4:#9c36b5;--c5:#c77700;--c6:#0b7285;--c7:#c2255c;
--c8:#5f6b7a}
@media (prefers-color-scheme:dark){:root{
--page:#14171b;--card:#1c2026;--ink:#e6e8eb;--soft:#a3abb6;--faint:#78818d;--rule:#2e343c;
--grid:#272c33;--accent:#3bc9db;--good:#51cf66;--warn:#fcc419;--bad:#ff6b6b;
--good-soft:#51cf661c;--bad-soft:#ff6b6b1f;--warn-soft:#fcc41926;--sunk:#171a1f;
--c1:#4dabf7;--c2:#ff922b;--c3:#69db7c;--c4:#da77f2;--c5:#ffd43b;--c6:#3bc9db;--c7:#f783ac;
--c8:#adb5bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:36px 24px 64px}
header.top{display:flex;flex-wrap:wrap;align-items:baseline;gap:6px 16px;margin-bottom:20px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.02em;margin:0;flex-basis:100%;
font-weight:680}
.kicker{flex-basis:100%;color:var(--accent);font-weight:650;font-size:13px;letter-spacing:.02em}
.lead{color:var(--soft);margin:0;flex-basis:100%;font-size:16px}
h2{font-size:18px;letter-spacing:-.01em;margin:40px 0 12px;font-weight:660}
h2 small{font-weight:400;color:var(--faint);font-size:14px;margin-left:10px;letter-spacing:0}
.card,figure.chart,figure.map,.film{background:var(--card);border:1px solid var(--rule);
border-radius:12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:12px;padding:14px 16px}
.tile span{display:block;color:var(--soft);font-size:13px}
.tile b{display:block;font-size:27px;line-height:1.25;font-weight:660;letter-spacing:-.02em}
.tile small{color:var(--faint);font-size:12.5px;display:block}
.tile.good b{color:var(--good)}.tile.warn b{color:var(--warn)}.tile.bad b{color:var(--bad)}
.split{display:grid;grid-template-columns:minmax(0,1.55fr) minmax(0,1fr);gap:14px;
align-items:stretch}
.split>*:only-child{grid-column:1/-1;max-width:660px}
@media (max-width:820px){.split{grid-template-columns:1fr}main{padding:24px 14px 48px}}
.film{margin:0;overflow:hidden}.film video{display:block;width:100%;background:#000}
.film figcaption,figure.map figcaption{padding:9px 14px;font-size:13px;color:var(--soft)}
figure{margin:0}
figure.chart{padding:12px 14px 8px;margin-bottom:12px}
figure.chart figcaption{display:flex;flex-wrap:wrap;align-items:baseline;gap:2px 10px;
margin-bottom:4px}
figure.chart figcaption b{font-weight:640}
.unit,.note{color:var(--faint);font-size:13px}
svg{display:block;width:100%;height:auto;font-family:inherit}
.grid{stroke:var(--grid);stroke-width:1}.rail{stroke:var(--grid);stroke-width:1}
.tick,.lane{fill:var(--faint);font-size:12px}.lane{fill:var(--soft);font-size:13px}
.line{fill:none;stroke-width:1.7;stroke-linejoin:round}
.area{opacity:.13}
.edge{stroke:var(--rule);stroke-width:1.5}.shade.good{fill:none}.shade.bad{fill:var(--bad-soft)}.shade.warn{fill:var(--warn-soft)}
.plot{position:relative}
.cross{stroke:var(--faint);stroke-width:1;visibility:hidden;stroke-dasharray:3 3}
.tip{position:absolute;top:6px;pointer-events:none;background:var(--card);
border:1px solid var(--rule);border-radius:8px;padding:6px 9px;font-size:12.5px;line-height:1.45;
box-shadow:0 4px 16px #0002;white-space:nowrap;z-index:2}
.tip i,.legend i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px}
.tip b{float:right;margin-left:14px;font-weight:620}
.legend{display:flex;flex-wrap:wrap;gap:2px 13px;list-style:none;margin:0;padding:0;
font-size:12.5px;color:var(--soft)}
figcaption>.legend{margin-left:auto}figure.map .legend{margin:6px 0 0}
.bar{stroke:none}.inbar{fill:#fff;font-size:12px;font-weight:600;pointer-events:none}
@media (prefers-color-scheme:dark){.inbar{fill:#14171b}}
.bar.good,.dot.good{fill:var(--good)}.bar.bad,.dot.bad{fill:var(--bad)}
.bar.warn,.dot.warn{fill:var(--warn)}.dot.plain{fill:var(--soft)}
.bar{fill-opacity:.9}.p1{fill:var(--c1)}.p2{fill:var(--c2)}.p3{fill:var(--c3)}.p4{fill:var(--c4)}.p5{fill:var(--c5)}
.p6{fill:var(--c6)}.p7{fill:var(--c7)}.p8{fill:var(--c8)}
table{width:100%;border-collapse:collapse;font-size:14px}
.card{overflow-x:auto}
th{text-align:left;font-weight:560;color:var(--soft);font-size:13px;padding:9px 14px;
border-bottom:1px solid var(--rule);white-space:nowrap}
td{padding:8px 14px;border-bottom:1px solid var(--grid);vertical-align:top}
tr:last-child td{border-bottom:0}td.n,th.n{text-align:right}
td.dim{color:var(--soft)}
.pill{display:inline-block;border-radius:99px;padding:0 9px;font-size:12.5px;font-weight:600;
line-height:21px;white-space:nowrap}
.pill.good{color:var(--good);background:var(--good-soft)}
.pill.bad{color:var(--bad);background:var(--bad-soft)}
.pill.warn{color:var(--warn);background:var(--warn-soft)}
.looks{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:12px}
.look{background:var(--card);border:1px solid var(--rule);border-radius:12px;overflow:hidden}
.look figcaption{display:flex;gap:12px;padding:8px 14px;font-size:13px;color:var(--soft)}
.look figcaption b{color:var(--ink);font-weight:620}
.look figcaption span:last-child{margin-left:auto}
.boxlabel{fill:#fff;font-weight:600}
@media (prefers-color-scheme:dark){.boxlabel{fill:#14171b}}
figure.map{padding:12px 12px 4px;display:flex;flex-direction:column}
figure.map svg{flex:1;min-height:240px;max-height:470px}figure.map figcaption{padding:9px 4px}
.map .grid{stroke:var(--rule)}
.table{fill:var(--sunk);stroke:var(--rule)}.tray{fill:none;stroke:var(--faint);
stroke-dasharray:5 4;stroke-width:1.5}
.base{fill:var(--rule);stroke:var(--faint)}
.thing{fill-opacity:.28;stroke-width:1.6;stroke-linejoin:round}
.grasp circle{fill:var(--card);stroke:var(--soft);stroke-width:2}
.grasp text{font-size:12px;font-weight:650;fill:var(--ink)}
.grasp.good circle{stroke:var(--good)}.grasp.bad circle{stroke:var(--bad)}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:0 28px;
padding:10px 16px}
.pairs div{display:flex;justify-content:space-between;gap:14px;padding:5px 0;
border-bottom:1px solid var(--grid)}
.pairs dt{color:var(--soft)}.pairs dd{margin:0;text-align:right;overflow-wrap:anywhere}
.pairs{margin:0}
details{margin-top:12px}summary{cursor:pointer;color:var(--soft);font-size:14px}
pre{background:var(--sunk);border:1px solid var(--rule);border-radius:8px;padding:12px 14px;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-x:auto}
.empty{color:var(--soft);margin:6px 0 10px;padding:0}
p.empty.boxed{background:var(--card);border:1px solid var(--rule);border-radius:12px;
padding:14px 16px;margin:0}
.warning{background:var(--warn-soft);border-radius:10px;padding:10px 14px;margin:12px 0 0}
footer{margin-top:44px;color:var(--faint);font-size:13px;border-top:1px solid var(--rule);
padding-top:14px}
@media print{body{background:#fff}.look,figure.chart,.tile,.card{break-inside:avoid}
.film{display:none}main{max-width:none;padding:0}}
"""

# One cross-hair through all charts at the time under the pointer; without script the charts
# stand as they are.
SCRIPT = """
(function(){
var charts=[].map.call(document.querySelectorAll('figure.chart .plot'),function(plot){
 var data=JSON.parse(plot.parentNode.querySelector('script').textContent);
 var svg=plot.querySelector('svg');
 return {plot:plot,svg:svg,data:data,cross:svg.querySelector('.cross'),
  tip:plot.querySelector('.tip'),width:svg.viewBox.baseVal.width};
});
function nearest(t,at){
 var a=0,b=t.length-1;
 while(b-a>1){var m=(a+b)>>1;if(t[m]<at)a=m;else b=m;}
 return at-t[a]<t[b]-at?a:b;
}
function show(at,over){
 charts.forEach(function(c){
  var d=c.data,s=d.span,p=d.plot;
  if(at===null||at<s[0]||at>s[1]){c.cross.style.visibility='hidden';c.tip.hidden=true;return;}
  var i=nearest(d.t,at),x=p[0]+(d.t[i]-s[0])/(s[1]-s[0])*(p[1]-p[0]);
  c.cross.setAttribute('x1',x);c.cross.setAttribute('x2',x);c.cross.style.visibility='visible';
  c.tip.hidden=c!==over;
  if(c!==over)return;
  c.tip.textContent='';
  var head=document.createElement('div');head.textContent=d.t[i].toFixed(2)+' s';
  head.style.color='var(--soft)';c.tip.appendChild(head);
  d.lines.forEach(function(l){
   var row=document.createElement('div'),dot=document.createElement('i'),
    value=document.createElement('b');
   dot.style.background=l.colour;
   value.textContent=l.v[i]===null?'\\u2013':String(l.v[i])+' '+d.unit;
   row.appendChild(value);row.appendChild(dot);
   row.appendChild(document.createTextNode(l.label));c.tip.appendChild(row);
  });
  var share=x/c.width,box=c.svg.clientWidth;
  if(share<.6){c.tip.style.left=(share*box+12)+'px';c.tip.style.right='auto';}
  else{c.tip.style.right=((1-share)*box+12)+'px';c.tip.style.left='auto';}
 });
}
charts.forEach(function(c){
 c.plot.addEventListener('pointermove',function(e){
  var r=c.svg.getBoundingClientRect(),d=c.data;
  var x=(e.clientX-r.left)/r.width*c.width;
  show(d.span[0]+(x-d.plot[0])/(d.plot[1]-d.plot[0])*(d.span[1]-d.span[0]),c);
 });
 c.plot.addEventListener('pointerleave',function(){show(null,null);});
});
})();
"""
