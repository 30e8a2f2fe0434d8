"use strict";
// Reads values off the charts: the legend shows those under the pointer instead of the last.

const POINT = /(-?[\d.]+),(-?[\d.]+)/g;

function written(value, span, chart) {
  if ("percent" in chart.dataset) return (100 * value).toFixed(span < 0.1 ? 2 : 1) + " %";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace("e+", "e");
  // No more digits than a place in the picture can tell.
  const step = "log" in chart.dataset ? size / 100 : span / 1000;
  return value.toFixed(Math.min(Math.max(-Math.floor(Math.log10(step)), 0), 12));
}

function readable(chart) {
  const figure = chart.parentElement;
  const at = figure.querySelector(".at");
  const [left, top, right, bottom] = chart.dataset.box.split(" ").map(Number);
  const [x0, x1] = chart.dataset.x.split(" ").map(Number);
  const range = chart.dataset.y.split(" ").map(Number);
  const isLog = "log" in chart.dataset;
  const [y0, y1] = isLog ? range.map(Math.log) : range;
  const cross = document.createElementNS(chart.namespaceURI, "path");
  cross.setAttribute("class", "cross");
  let runs = null;

  function parse() {
    return [...figure.querySelectorAll(".legend li")].map((entry) => ({
      entry,
      label: entry.querySelector("b"),
      last: entry.querySelector("b").textContent,
      points: [...chart.querySelector(`.${entry.className} .line`).getAttribute("d").matchAll(POINT)]
        .map((found) => [Number(found[1]), Number(found[2])]),
    }));
  }

  function show(event) {
    runs ??= parse();
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    let nearest = null;
    for (const run of runs) {
      if (getComputedStyle(run.entry).display === "none") continue;
      const point = run.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a));
      if (nearest === null || Math.abs(point[0] - x) < Math.abs(nearest - x)) nearest = point[0];
      const y = y0 + (bottom - point[1]) / (bottom - top) * (y1 - y0);
      // Beyond a run's last or first point there is nothing to tell.
      const isBeyond = Math.abs(point[0] - x) > 0.05 * (right - left);
      run.label.textContent = isBeyond ? "-" : written(isLog ? Math.exp(y) : y, range[1] - range[0], chart);
    }
    if (nearest === null) return;
    cross.setAttribute("d", `M${nearest},${top}V${bottom}`);
    chart.append(cross);
    const place = x0 + (nearest - left) / (right - left) * (x1 - x0);
    at.textContent = `${chart.dataset.label} ${Math.round(place).toLocaleString("en")}`;
  }

  function hide() {
    cross.remove();
    at.textContent = "";
    for (const run of runs ?? []) run.label.textContent = run.last;
  }

  chart.addEventListener("pointermove", show);
  chart.addEventListener("pointerdown", show);
  chart.addEventListener("pointerleave", hide);
}

document.documentElement.classList.add("scripted");
document.querySelectorAll("svg[data-box]").forEach(readable);
