// Draws the charts one by one, so that the page can be read and scrolled meanwhile.
addEventListener("DOMContentLoaded", async () => {
  const plots = [...document.querySelectorAll(".plot")];
  const touch = matchMedia("(pointer: coarse)").matches;  // there a drag is for scrolling
  const draw = (plot) => {
    const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
    if (touch) layout.dragmode = false;
    return Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
  };
  for (const plot of plots) {
    if (!window.Plotly) { plot.append("Not drawn: the file plotly.min.js is not beside this page."); plot.style.height = "auto"; continue; }
    await draw(plot);
    await new Promise((done) => setTimeout(done));
  }
  document.body.dataset.drawn = plots.length;
});

// Paper is narrower than most windows, and a chart does not follow by itself.
const onPaper = (width) => {
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    Plotly.relayout(plot, width ? { width: plot.closest(".small") ? 200 : 660 } : { width: null, autosize: true });
  }
};
addEventListener("beforeprint", () => onPaper(true));
addEventListener("afterprint", () => onPaper(false));

// Sorts a table by the column whose heading is pressed: numbers from the largest, text from A; a second press turns it
// round. What has no value stays at the end.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex, rows = [...body.rows];
    const text = (row) => row.cells[column].textContent.trim();
    const ratios = rows.some((row) => /^~?x[\d.]/.test(text(row)));
    const scale = { k: 1e3, M: 1e6, G: 1e9, "µs": 1e-6, ms: 1e-3, min: 60, h: 3600 };
    const number = (row) => {
      // The baseline's own rate stands among ratios to it, and its difference to itself is left out.
      if (row.classList.contains("baseline") && ratios) return 1;
      if (row.classList.contains("baseline") && text(row) === "") return 0;
      const found = text(row).match(/^~?x?([+-]?\d[\d.]*)\s?(µs|ms|min|h|[kMG])?/);
      return found ? Number(found[1]) * (scale[found[2]] || 1) : null;
    };
    const numeric = rows.some((row) => !row.classList.contains("baseline") && number(row) !== null);
    const value = numeric ? number : (row) => text(row) || null;
    const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = heading.getAttribute("aria-sort") === first ? second : first;
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    body.append(...rows.map((row) => [value(row), row]).sort(([x], [y]) => {
      if (x === null || y === null) return (x === null) - (y === null);
      const more = numeric ? x - y : x.localeCompare(y);
      return order === "ascending" ? more : -more;
    }).map(([, row]) => row));
  });
}
