"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

/* Plots are drawn when they come near the window, in the colours of light or dark. */
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function dress(layout) {
  const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
  const dressed = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style("--text"), size: 12 },
    margin: { l: 48, r: 12, t: 56, b: 40 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: style("--card"), bordercolor: style("--line"), font: { color: style("--text") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--soft"), activecolor: style("--accent") }, ...layout };
  for (const key of Object.keys(layout).concat("xaxis", "yaxis"))
    if (/^[xy]axis/.test(key)) dressed[key] = { ...axis, ...layout[key] };
  if (layout.shapes) dressed.shapes = layout.shapes.map((shape) => ({ ...shape, line: { color: style("--soft"), dash: "dot" } }));
  return dressed;
}
function draw(place) {
  const plot = data.plots[place.id];
  Plotly.newPlot(place, plot.traces, dress(plot.layout), { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] });
  if (place.dataset.opens === "cells")
    place.on("plotly_click", (event) => open_cell(event.points[0].y, event.points[0].x));
  place.dataset.drawn = "yes";
}
const near = new IntersectionObserver((entries) => {
  for (const entry of entries)
    if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
}, { rootMargin: "200px" });
document.querySelectorAll(".plot").forEach((place) => near.observe(place));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.querySelectorAll(".plot[data-drawn]").forEach(draw));

/* Tables are sorted by the button in a heading. */
function sort_by(heading) {
  const table = heading.closest("table"), column = heading.cellIndex;
  const direction = heading.getAttribute("aria-sort") === "descending" ? 1 : -1;
  const value = (row) => {
    const cell = row.cells[column], number = cell.dataset.value;
    return number === undefined ? cell.textContent.trim().toLowerCase() : number === "" ? -Infinity : Number(number);
  };
  const rows = [...table.tBodies[0].rows].sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0) * direction);
  table.tBodies[0].append(...rows);
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}
document.querySelectorAll("th button").forEach((button) =>
  button.addEventListener("click", () => sort_by(button.parentElement)));

/* A table is filtered by words, all of which a row must have. */
document.querySelectorAll("input[data-filters]").forEach((input) => {
  const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
});

/* The pictures of a cell of the confusion matrix. */
function open_cell(row, column) {
  const cell = data.cells[row + "," + column] || { images: 0, pictures: [] };
  const gallery = document.getElementById("cell");
  gallery.querySelector("h3").textContent =
    `${data.classes[row]} taken for ${data.classes[column]}: ${cell.images} images, ${cell.pictures.length} shown`;
  gallery.querySelector(".gallery").replaceChildren(...cell.pictures.map(([source, caption, name]) => {
    const figure = document.createElement("figure"), image = document.createElement("img"), text = document.createElement("figcaption");
    image.src = source; image.alt = name; image.title = name; text.textContent = caption;
    figure.append(image, text);
    return figure;
  }));
  for (const [name, value] of [["row", row], ["column", column]]) document.getElementById(name).value = value;
}
document.querySelectorAll("button[data-cell]").forEach((button) =>
  button.addEventListener("click", () => open_cell(...button.dataset.cell.split(",").map(Number))));
for (const name of ["row", "column"]) {
  const select = document.getElementById(name);
  if (select) select.addEventListener("change", () =>
    open_cell(Number(document.getElementById("row").value), Number(document.getElementById("column").value)));
}
