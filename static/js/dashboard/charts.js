// Draws what stands in #charts-data. Names are drawn on a canvas as plain text; nothing here makes HTML of data.

// The places are those of dashboard/colours.py.
const COLOURS = ["--accent", "--code-number", "--code-name", "--code-keyword", "--code-string", "--line-strong"];
const OF_ROLE = { target: "--danger", before: "--text-soft" };

function colour(name) {
  // A custom property holds `light-dark(…)` itself; only a colour that is in use is one of both.
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const computed = getComputedStyle(probe).color;
  probe.remove();
  return computed;
}

// Of one place, or of a list of them.
function shadeAt(place) {
  return Array.isArray(place) ? place.map(shadeAt) : colour(COLOURS[place % COLOURS.length]);
}

/** One chart of the page, and what it shows now. */
class Drawing {
  #element;
  #chart = null;
  #told = null;

  constructor(element) { this.#element = element; }

  show(told) {
    const isOther = this.#told && (told.kind !== this.#told.kind || told.unit !== this.#told.unit);
    this.#told = told;
    this.#element.querySelector(".chart-frame").hidden = told.empty;
    this.#element.querySelector(".chart-empty").hidden = !told.empty;
    if (told.empty || isOther) this.#clear();
    if (told.empty) return;
    const datasets = told.series.map((one) => this.#dataset(one));
    if (!this.#chart) {
      const options = this.#options();
      this.#chart = new Chart(this.#element.querySelector("canvas"), { type: told.kind === "line" ? "line" : "bar", data: { labels: told.labels, datasets }, options });
      return;
    }
    // The same objects with new values, so that what is hidden or hovered stays so.
    this.#chart.data.labels = told.labels;
    const known = this.#chart.data.datasets;
    datasets.forEach((one, index) => {
      if (known[index]?.label === one.label) Object.assign(known[index], one);
      else known[index] = one;
    });
    known.length = datasets.length;
    this.#chart.update("none");
  }

  drawAnew() {
    this.#clear();
    if (this.#told) this.show(this.#told);
  }

  #clear() {
    this.#chart?.destroy();
    this.#chart = null;
  }

  #dataset({ name, role, colour: place, values }) {
    const shade = role ? colour(OF_ROLE[role]) : shadeAt(place);
    const isLine = this.#told.kind === "line" || role;
    const look = isLine
      ? { type: "line", borderWidth: role ? 1.5 : 2, borderDash: role ? [6, 4] : [], pointRadius: values.length < 3 && !role ? 3 : 0, pointHitRadius: 12, spanGaps: this.#told.key === "training", stack: role || name, order: role ? 0 : 1, fill: false }
      : { type: "bar", stack: "all", order: 1, barPercentage: 1, categoryPercentage: this.#told.kind === "bars" ? 0.7 : 0.9 };
    return { label: name, data: values, borderColor: shade, backgroundColor: shade, tension: 0, ...look };
  }

  #options() {
    const told = this.#told;
    const [soft, line] = ["--text-soft", "--line"].map(colour);
    const axis = (extra) => ({ ticks: { color: soft }, grid: { color: line }, ...extra });
    const isLying = told.kind === "bars";
    const names = axis({ stacked: !isLying, ticks: { color: soft, autoSkip: !isLying, maxRotation: 0, autoSkipPadding: 16 }, grid: { display: false } });
    const numbers = axis({ type: told.scale, beginAtZero: told.scale === "linear", stacked: told.kind === "stack", title: { display: Boolean(told.unit), text: told.unit, color: soft } });
    if (told.scale === "logarithmic") numbers.ticks = { color: soft, autoSkip: true, maxTicksLimit: 8, callback: (value) => (Number.isInteger(Math.log10(value)) ? value.toLocaleString(document.documentElement.lang) : "") };
    return {
      animation: false,
      maintainAspectRatio: false,
      locale: document.documentElement.lang,
      indexAxis: isLying ? "y" : "x",
      interaction: { mode: "index", axis: isLying ? "y" : "x", intersect: false },
      onClick: (_event, elements) => this.#follow(elements),
      onHover: (event, elements) => { event.native.target.style.cursor = this.#linkOf(elements) ? "pointer" : ""; },
      scales: isLying ? { x: numbers, y: names } : { x: names, y: numbers },
      plugins: { legend: { display: told.series.length > 1, position: "bottom", labels: { color: soft, boxWidth: 12, boxHeight: 2, usePointStyle: false } } },
    };
  }

  #linkOf(elements) { return elements.length ? this.#told.links[elements[0].index] : ""; }

  #follow(elements) {
    const link = this.#linkOf(elements);
    if (link) location.assign(link);
  }
}

const drawings = new Map([...document.querySelectorAll(".chart[data-key]")].map((one) => [one.dataset.key, new Drawing(one)]));

/** Draw what the site has told, in the charts that are there already. Most of them have the same times. */
export function show({ times, charts }) {
  for (const told of charts) {
    const shared = { labels: times.labels, links: told.leads ? times.links.map((link) => link + told.only) : [] };
    drawings.get(told.key)?.show({ ...("leads" in told ? shared : {}), ...told });
  }
}

function drawAllAnew() {
  for (const one of drawings.values()) one.drawAnew();
}

const data = document.querySelector("#charts-data");
if (data) {
  show(JSON.parse(data.textContent));
  document.documentElement.dataset.charts = "drawn";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAllAnew);
  new MutationObserver(drawAllAnew).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}
