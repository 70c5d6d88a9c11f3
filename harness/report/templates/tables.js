// Gives each table of data what a reader needs of many rows: an order, a search, filters, and a choice of columns. All of it
// is added here, so that a page without scripts is a page of plain tables.

const made = (name, facts = {}, ...inside) => {
  const element = Object.assign(document.createElement(name), facts);
  element.append(...inside);
  return element;
};

// A table with a second body shows as many rows as its first one has, and more of them when asked: a browser takes seconds
// to lay out ten thousand rows, and would do so again for each order and each search. Paper has all rows.
const shownRows = (table) => {
  const [body, further] = table.tBodies, slice = further ? body.rows.length : Infinity;
  const list = { rows: [...table.rows].slice(1), fits: () => true, found: 0 }, told = made("span");
  let most = slice;
  const draw = (limit) => {
    const found = list.rows.filter(list.fits);
    body.replaceChildren(...found.slice(0, limit));
    list.found = found.length;
    tools.hidden = found.length <= limit;
    told.textContent = `The first ${limit} of ${found.length} rows are shown.`;
  };
  const [more, all] = [[`${slice} more`, () => most + slice], ["All", () => Infinity]].map(([title, limit]) => {
    const button = made("button", { type: "button" }, title);
    button.addEventListener("click", () => { most = limit(); draw(most); });
    return button;
  });
  const tools = made("div", { className: "tools" }, told, more, all);
  list.show = () => { most = slice; draw(most); };
  if (!further) return list;
  list.show();
  further.remove();
  table.closest(".scroll").after(tools);
  addEventListener("beforeprint", () => draw(Infinity));
  addEventListener("afterprint", () => draw(most));
  return list;
};

// What a cell is sorted by: the number it begins with, in one unit, or its text; or what it says of itself, where it shows
// more than a value. What has no value stays at the end.
const SCALE = { k: 1e3, M: 1e6, G: 1e9, "µs": 1e-6, ms: 1e-3, min: 60, h: 3600 };
const keysOf = (rows, column, heading) => {
  const texts = rows.map((row) => (row.cells[column].dataset.sort ?? row.cells[column].textContent).trim());
  const ratios = texts.some((text) => /^~?x[\d.]/.test(text));
  const numbers = texts.map((text, place) => {
    // The baseline's own rate stands among ratios to it, and its difference to itself is left out.
    const baseline = rows[place].classList.contains("baseline");
    if (baseline && ratios) return 1;
    if (baseline && text === "") return 0;
    const found = text.match(/^~?x?([+-]?\d[\d.]*)\s?(µs|ms|min|h|[kMG])?/);
    return found ? Number(found[1]) * (SCALE[found[2]] || 1) : null;
  });
  const words = column === 0 || heading.classList.contains("left");
  const numeric = !words && rows.some((row, place) => !row.classList.contains("baseline") && numbers[place] !== null);
  return [numeric ? numbers : texts.map((text) => text || null), numeric];
};

// Sorts by the column whose heading is pressed: numbers from the largest, text from A; a second press turns it round.
const sortBy = (list, heading) => {
  const rows = list.rows;
  const [keys, numeric] = keysOf(rows, heading.cellIndex, heading);
  const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
  const order = heading.getAttribute("aria-sort") === first ? second : first;
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const words = new Intl.Collator(undefined, { numeric: true });
  const places = keys.map((_, place) => place).sort((one, other) => {
    const x = keys[one], y = keys[other];
    if (x === null || y === null) return (x === null) - (y === null) || one - other;
    const more = numeric ? x - y : words.compare(x, y);
    return (order === "ascending" ? more : -more) || one - other;
  });
  list.rows = places.map((place) => rows[place]);
  list.show();
};

// A row is shown where it has every word of the search, none that stands behind a minus, and the chosen value of each filter.
const filtersOf = (table, list) => {
  const heads = [...table.tHead.rows[0].cells], told = made("output", { className: "soft" });
  const name = table.closest("[aria-label]").getAttribute("aria-label");
  const search = made("input", { type: "search", placeholder: "Find: words, -not", ariaLabel: `Find in ${name}` });
  const texts = new Map();
  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, [...row.cells].map((cell) => cell.textContent).join("\t").toLowerCase());
    return texts.get(row);
  };
  const valueOf = (row, column) => row.cells[column].dataset.facet ?? row.cells[column].textContent.trim();
  const facets = heads.filter((head) => "facet" in head.dataset).map((head) => {
    const values = [...new Set(list.rows.map((row) => valueOf(row, head.cellIndex)))].filter(Boolean).sort();
    const title = head.textContent.trim();
    const select = made("select", { ariaLabel: `${title} in ${name}` }, made("option", { value: "" }, `every ${title}`));
    for (const value of values) select.append(made("option", { value }, value));
    select.column = head.cellIndex;
    return select;
  });
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
    const chosen = facets.filter((select) => select.value);
    list.fits = (row) => words.every((word) => (word[0] === "-" ? !textOf(row).includes(word.slice(1)) : textOf(row).includes(word)))
      && chosen.every((select) => valueOf(row, select.column) === select.value);
    list.show();
    const all = list.rows.length;
    told.textContent = words.length || chosen.length ? `${list.found} of ${all} rows` : `${all} rows`;
  };
  search.addEventListener("input", apply);
  for (const select of facets) select.addEventListener("change", apply);
  told.textContent = `${list.rows.length} rows`;
  return [search, ...facets.filter((select) => select.length > 2), told];
};

// The boxes by which columns are left out; the first column says what a row is, and stays.
const columnsOf = (table, number) => {
  const style = made("style"), boxes = [];
  document.head.append(style);
  table.dataset.table = number;
  const apply = () => {
    const hidden = boxes.filter((box) => !box.checked).map((box) => `[data-table="${number}"] tr > :nth-child(${box.column})`);
    style.textContent = hidden.length ? `${hidden.join(",")} { display: none; }` : "";
  };
  const list = made("div");
  for (const head of [...table.tHead.rows[0].cells].slice(1)) {
    const box = made("input", { type: "checkbox", checked: true });
    box.column = head.cellIndex + 1;
    box.addEventListener("change", apply);
    boxes.push(box);
    list.append(made("label", {}, box, ` ${head.textContent.trim()}`));
  }
  const [all, none] = [["All", true], ["None", false]].map(([title, checked]) => {
    const button = made("button", { type: "button" }, title);
    button.addEventListener("click", () => { for (const box of boxes) box.checked = checked; apply(); });
    return button;
  });
  list.append(made("span", {}, all, " ", none));
  return made("details", { className: "choose" }, made("summary", {}, "Columns"), list);
};

[...document.querySelectorAll("table.data")].forEach((table, number) => {
  const list = shownRows(table);
  for (const head of table.tHead.rows[0].cells) {
    const button = made("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => sortBy(list, head));
    head.append(button);
  }
  if (list.rows.length < 2) return;
  const tools = made("div", { className: "tools" }, ...filtersOf(table, list), columnsOf(table, number));
  table.closest(".scroll").before(tools);
});

// A slash goes to the first search of the page, as on many sites; Escape empties it.
addEventListener("keydown", (event) => {
  const inside = event.target.closest?.("input, select, textarea");
  const search = document.querySelector(".tools input[type=search]");
  if (event.key === "/" && !inside && search && !event.ctrlKey && !event.metaKey) { event.preventDefault(); search.focus(); }
  if (event.key === "Escape" && inside?.type === "search" && inside.value) { inside.value = ""; inside.dispatchEvent(new Event("input")); }
});
