// Draws the charts one by one, so that the page can be read and scrolled meanwhile.
addEventListener("DOMContentLoaded", async () => {
  const plots = [...document.querySelectorAll(".plot")];
  const touch = matchMedia("(pointer: coarse)").matches;  // there a drag is for scrolling
  const draw = (plot) => {
    const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
    if (touch) layout.dragmode = false;
    return Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
  };
  for (const select of document.querySelectorAll(".one select")) {
    select.addEventListener("change", async () => {
      const figures = [...select.closest(".one").querySelectorAll("figure")];
      figures.forEach((figure, place) => { figure.hidden = place !== select.selectedIndex; });
      const plot = figures[select.selectedIndex].querySelector(".plot");
      if (window.Plotly && !plot.classList.contains("js-plotly-plot")) await draw(plot);
    });
  }
  let drawn = 0;
  for (const plot of plots) {
    if (plot.classList.contains("js-plotly-plot")) continue;  // a reader was faster
    if (!window.Plotly) { plot.append("Not drawn: the file plotly.min.js is not beside this page."); plot.style.height = "auto"; continue; }
    if (plot.closest("[hidden]")) continue;  // it is drawn when it is chosen
    await draw(plot);
    drawn += 1;
    await new Promise((done) => setTimeout(done));
  }
  document.body.dataset.drawn = drawn;
});

// Of drawings that stand for one another, one is shown at a time.
for (const chart of document.querySelectorAll(".one")) {
  const figures = [...chart.querySelectorAll("figure")];
  const select = document.createElement("select");
  select.setAttribute("aria-label", chart.dataset.choose);
  for (const figure of figures) select.append(new Option(figure.querySelector("strong").textContent));
  figures.forEach((figure, place) => { figure.hidden = place > 0; figure.querySelector("figcaption").hidden = true; });
  figures[0].before(select);
}

// Paper is narrower than most windows, and a chart does not follow by itself.
const onPaper = (width) => {
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    Plotly.relayout(plot, width ? { width: plot.closest(".small") ? 200 : 660 } : { width: null, autosize: true });
  }
};
addEventListener("beforeprint", () => onPaper(true));
addEventListener("afterprint", () => onPaper(false));
