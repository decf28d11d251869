// Canary and stable on one axis, with the limit and the steps. What is drawn is an attribute of its
// place, so that a page fetched anew brings new data; the table beside it says the same.
(() => {
  "use strict";
  const HEIGHT = 190;
  const drawn = new Map();
  const scheme = matchMedia("(prefers-color-scheme: dark)");

  // Colours as the page has them: a canvas knows no custom properties, and no pairs for two themes.
  const colours = (place) => {
    const of = (element) => getComputedStyle(element);
    const legend = (name) => of(place.parentElement.querySelector(`.legend .${name}`)).color;
    const { color, borderTopColor, fontFamily } = of(place);
    return {
      canary: legend("canary"), stable: legend("stable"), limit: legend("limit"),
      text: color, rule: borderTopColor, font: fontFamily,
    };
  };

  const range = (data) => {
    const known = [...data.canary, ...data.stable, data.limit].filter((value) => value !== null);
    return [0, Math.max(...known) * 1.15 || 1];
  };

  const tick = (value, unit) => `${+value.toPrecision(4)}${unit && "\u202f" + unit}`;

  // Lines across: the limit, and where each step began.
  const lines = (data, ink) => (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.font = `${11 * devicePixelRatio}px ${ink.font}`;
    ctx.fillStyle = ink.text;
    ctx.strokeStyle = ink.rule;
    ctx.textBaseline = "top";
    for (const [at, words] of data.marks) {
      const x = Math.round(plot.valToPos(at, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      line(ctx, x, bbox.top, x, bbox.top + bbox.height);
      ctx.fillText(words, x + 4 * devicePixelRatio, bbox.top + 2 * devicePixelRatio);
    }
    const y = Math.round(plot.valToPos(data.limit, "y", true));
    ctx.strokeStyle = ink.limit;
    ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    if (y >= bbox.top) line(ctx, bbox.left, y, bbox.left + bbox.width, y);
    ctx.restore();
  };

  const line = (ctx, x, y, toX, toY) => {
    ctx.beginPath();
    ctx.moveTo(x, y);
    ctx.lineTo(toX, toY);
    ctx.stroke();
  };

  const options = (data, width, ink) => ({
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
    scales: { x: { time: true }, y: { range: range(data) } },
    hooks: { draw: [lines(data, ink)] },
    axes: [
      {
        stroke: ink.text, font: `12px ${ink.font}`, grid: { show: false },
        ticks: { stroke: ink.rule, width: 1, size: 5 }, size: 30, space: 70,
        values: [
          [3600, "{HH}:{mm}", null, null, null, null, null, null, 1],
          [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
        ],
      },
      {
        stroke: ink.text, font: `12px ${ink.font}`, size: 62, space: 40,
        grid: { stroke: ink.rule, width: 1 }, ticks: { show: false },
        values: (_, values) => values.map((value) => tick(value, data.unit)),
      },
    ],
    series: [
      {},
      { label: "canary", stroke: ink.canary, width: 2, dash: [6, 4], points: { show: false } },
      { label: "stable", stroke: ink.stable, width: 2, points: { show: false } },
    ],
  });

  const draw = (place) => {
    const text = place.dataset.chart, before = drawn.get(place);
    const width = place.clientWidth;
    if (!width || (before?.text === text && before.width === width)) return;
    before?.plot.destroy();
    const data = JSON.parse(text);
    const series = [data.times, data.canary, data.stable];
    const plot = new uPlot(options(data, width, colours(place)), series, place);
    drawn.set(place, { plot, text, width });
  };

  const all = () => {
    for (const place of drawn.keys()) if (!place.isConnected) drawn.delete(place);
    for (const place of document.querySelectorAll("[data-chart]")) draw(place);
  };

  const anew = () => {
    for (const { plot } of drawn.values()) plot.destroy();
    drawn.clear();
    all();
  };

  const watched = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-chart"] };
  new MutationObserver(all).observe(document.getElementById("main"), watched);
  new ResizeObserver(all).observe(document.getElementById("main"));
  scheme.addEventListener("change", anew);
  all();
})();
