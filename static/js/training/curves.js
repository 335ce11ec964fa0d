// The curves of one run or several, drawn by Chart.js from what the API tells, and kept true while one is running.

import { call } from "../api.js";

const LOOK_AGAIN = 3_000; // milliseconds
const MOST_POINTS = 1_000; // of one curve: no screen has more to show
const RUNNING = ["queued", "running"];
const COLOURS = ["--accent", "--code-number", "--code-name", "--code-keyword", "--danger"];

/** One run's points, in the order of their steps. */
class Series {
  #points = [];

  constructor(run) {
    this.run = run;
  }

  get isEmpty() { return this.#points.length === 0; }

  /** Fetch what was logged since the last time; whether there was anything. */
  async fetch() {
    let isNew = false;
    for (;;) {
      const after = this.#points.at(-1)?.step ?? -1;
      const query = after < 0 ? "" : `&after=${after}`;
      const { results, next } = await call("GET", `/training/metrics?run=${this.run}${query}`);
      this.#points.push(...results);
      isNew ||= results.length > 0;
      if (!next || !results.length) return isNew;
    }
  }

  /** The points of one curve; of many the averages of neighbours. */
  curve(name) {
    const points = this.#points.filter((point) => point[name] !== null);
    const size = Math.ceil(points.length / MOST_POINTS);
    if (size <= 1) return points.map((point) => ({ x: point.step, y: point[name] }));
    const groups = Math.ceil(points.length / size);
    return Array.from({ length: groups }, (_, index) => average(points.slice(index * size, (index + 1) * size), name));
  }
}

function average(points, name) {
  return { x: points.at(-1).step, y: points.reduce((sum, point) => sum + point[name], 0) / points.length };
}

function colour(name) {
  // A custom property holds `light-dark(…)` itself; only a colour that is in use is one of both.
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const computed = getComputedStyle(probe).color;
  probe.remove();
  return computed;
}

class Curves {
  #element = document.querySelector(".curves");
  #choice = document.querySelector("#curve");
  #series = this.#element.dataset.runs.trim().split(/\s+/).map((run) => new Series(run));
  #chart = null;

  constructor() {
    this.#choice.addEventListener("change", () => this.#draw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#drawAnew());
    new MutationObserver(() => this.#drawAnew()).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    this.#nameColours();
    this.#look();
  }

  get #isAlone() { return this.#series.length === 1; }
  get #isRunning() { return this.#isAlone && RUNNING.includes(this.#element.dataset.status); }

  async #look() {
    if (document.visibilityState === "visible") {
      const news = await Promise.all(this.#series.map((one) => one.fetch())).catch(() => []);
      if (news.some(Boolean) || !this.#chart) this.#draw();
    }
    if (this.#isRunning) setTimeout(() => this.#look(), LOOK_AGAIN);
  }

  // --- Drawing -----------------------------------------------------------------------------------------

  #drawAnew() {
    this.#chart?.destroy();
    this.#chart = null;
    this.#nameColours();
    this.#draw();
  }

  #draw() {
    const isEmpty = this.#series.every((one) => one.isEmpty);
    this.#element.querySelector(".curve-empty").hidden = !isEmpty;
    this.#element.querySelector(".curve-frame").hidden = isEmpty;
    if (isEmpty) return;
    this.#chart ??= new Chart(this.#element.querySelector("canvas"), this.#options());
    this.#chart.data.datasets = this.#datasets();
    this.#chart.options.plugins.legend.display = this.#chart.data.datasets.length > 1;
    this.#chart.options.scales.y.title.text = this.#choice.selectedOptions[0].textContent;
    this.#chart.update();
  }

  #datasets() {
    const name = this.#choice.value;
    if (!this.#isAlone) {
      return this.#series.map((one, index) => dataset(this.#nameOf(one), one.curve(name), COLOURS[index]));
    }
    const [series] = this.#series;
    const chosen = dataset(this.#choice.selectedOptions[0].textContent, series.curve(name), COLOURS[0]);
    if (name !== "loss") return [chosen];
    return [chosen, dataset(gettext("Held-out loss"), series.curve("eval_loss"), COLOURS[1], { isSparse: true })];
  }

  #nameOf(series) {
    return document.querySelector(`.curve-name[data-run="${series.run}"]`)?.textContent.trim() ?? series.run;
  }

  // The table of a comparison says by its colours which curve is whose.
  #nameColours() {
    this.#series.forEach((one, index) => {
      const name = document.querySelector(`.curve-name[data-run="${one.run}"]`);
      name?.style.setProperty("--curve", colour(COLOURS[index]));
    });
  }

  #options() {
    const [soft, line] = ["--text-soft", "--line"].map(colour);
    const ticks = { color: soft };
    const axis = (text, extra = {}) => ({ ticks, grid: { color: line }, title: { display: true, text, color: soft }, ...extra });
    return {
      type: "line",
      data: { datasets: [] },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        scales: {
          x: axis(gettext("Step"), { type: "linear", ticks: { ...ticks, precision: 0 } }),
          y: axis(""),
        },
        plugins: { legend: { labels: { color: soft, usePointStyle: true, pointStyle: "line" } } },
      },
    };
  }
}

function dataset(label, data, name, { isSparse = false } = {}) {
  const shade = colour(name);
  const pointRadius = isSparse || data.length < 3 ? 3 : 0;
  return { label, data, borderColor: shade, backgroundColor: shade, borderWidth: 2, pointRadius, tension: 0 };
}

if (document.querySelector(".curves")) new Curves();
