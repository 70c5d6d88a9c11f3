// A chart is drawn where its element is read, before the page has its columns: give each the width it ended up with.
addEventListener("load", () => {
  for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(chart);
});

// Sorts a table by the column whose heading is pressed: numbers by size, all else by text; a second press turns it round.
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th"), body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex, down = heading.getAttribute("aria-sort") !== "descending";
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const scale = { k: 1e3, M: 1e6, G: 1e9 };
    const value = (row) => {
      const text = row.cells[column].textContent.trim();
      const found = text.match(/^~?x?([+-]?[\d.]+)([kMG])?/);
      return found ? Number(found[1]) * (scale[found[2]] || 1) : text;
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      const less = typeof x === "number" ? y - x : y.localeCompare(x);
      return down ? less : -less;
    };
    body.append(...[...body.rows].sort(order));
  });
}
