// What pages do in the browser, by attributes: times, themes, dialogs, copying, selection, charts.  No page has a
// script of its own inline; a room adds files beside this one.
(function () {
  "use strict";
  const $$ = (selector, root) => Array.from((root || document).querySelectorAll(selector));

  // ---- times in the reader's zone
  const minute = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", hour12: false });
  function showTimes(root) {
    $$("time[data-time]", root).forEach((element) => {
      const date = new Date(element.dateTime);
      if (!isNaN(date)) element.textContent = minute.format(date);
      element.removeAttribute("data-time");
    });
  }

  // ---- charts
  const charts = new Map();
  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue("--chart-" + name).trim(); }
  function withAlpha(hex, alpha) { return hex + Math.round(alpha * 255).toString(16).padStart(2, "0"); }
  // A value without neighbours has no line: it is drawn as a point.
  function lone(values, at) { const none = (i) => values[i] === null || values[i] === undefined; return !none(at) && none(at - 1) && none(at + 1); }
  const SHARES = ["main", "good", "warn", "bad", "other", "calm"];

  function drawChart(canvas) {
    if (!window.Chart) return;
    const spec = JSON.parse(canvas.dataset.chart);
    const text = colour("text"), grid = colour("grid");
    const round = spec.kind === "doughnut";
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const datasets = spec.series.map((series) => {
      const tone = colour(series.tone);
      if (round) {
        return { label: series.name, data: series.values, backgroundColor: spec.labels.map((_, i) => colour(SHARES[i % SHARES.length])), borderColor: colour("surface"), borderWidth: 2 };
      }
      return {
        label: series.name, data: series.values, borderColor: tone, borderWidth: series.dashed ? 1.5 : 2,
        borderDash: series.dashed ? [5, 4] : [], pointRadius: (point) => lone(series.values, point.dataIndex) ? 3 : 0, pointBackgroundColor: tone, pointHitRadius: 12, pointHoverRadius: 4, tension: 0.25,
        backgroundColor: spec.kind === "bar" ? tone : withAlpha(tone, 0.14), fill: spec.kind === "line" && series.filled,
        borderRadius: 3, maxBarThickness: 28, spanGaps: false, stack: spec.stacked ? "all" : undefined,
        ...(spec.kind === "bar" ? { borderWidth: 0 } : {}),
      };
    });
    const old = charts.get(canvas);
    if (old) old.destroy();
    charts.set(canvas, new window.Chart(canvas, {
      type: spec.kind,
      data: { labels: spec.labels, datasets: datasets },
      options: {
        responsive: true, maintainAspectRatio: false, animation: still ? false : { duration: 250 },
        interaction: { mode: round ? "nearest" : "index", intersect: round },
        cutout: round ? "68%" : undefined,
        onClick: function (event, found) { if (found.length && spec.links[found[0].index]) window.location.assign(spec.links[found[0].index]); },
        onHover: function (event, found) { event.native.target.style.cursor = found.length && spec.links.length ? "pointer" : "default"; },
        scales: round ? {} : {
          x: { stacked: spec.stacked, grid: { display: false }, border: { color: grid }, ticks: { color: text, maxRotation: 0, autoSkipPadding: 18 } },
          y: { stacked: spec.stacked, beginAtZero: true, grid: { color: grid }, border: { display: false }, ticks: { color: text, precision: 0, maxTicksLimit: 6 } },
        },
        plugins: {
          legend: { display: round || datasets.length > 1, position: round ? "right" : "bottom", labels: { color: text, boxWidth: 10, boxHeight: 10, usePointStyle: true, padding: 14 } },
          tooltip: { callbacks: { label: (item) => " " + (round ? item.label : item.dataset.label) + ": " + Number(item.raw).toLocaleString("en") + (spec.unit ? " " + spec.unit : "") } },
        },
      },
    }));
  }
  function drawCharts(root) {
    charts.forEach((chart, canvas) => { if (!canvas.isConnected) { chart.destroy(); charts.delete(canvas); } });
    const wanted = $$("canvas[data-chart]", root);
    if (!wanted.length || !window.Chart) return;
    window.Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    window.Chart.defaults.font.size = 12;
    window.Chart.defaults.locale = "en"; // as the numbers of the page
    wanted.forEach(drawChart);
  }
  document.addEventListener("volact:theme", () => { markTheme(); drawCharts(); });

  // ---- theme
  function markTheme() {
    let chosen = "auto";
    try { chosen = localStorage.getItem("volact-theme") || "auto"; } catch (error) { /* storage is switched off */ }
    $$("[data-theme]").forEach((button) => button.classList.toggle("active", button.dataset.theme === chosen));
  }

  // ---- what a click does
  document.addEventListener("click", function (event) {
    const target = event.target.closest("[data-open],[data-close],[data-copy],[data-theme],[data-help],[data-help-close],[data-side],[data-print]");
    if (!target) return;
    if (target.dataset.open) { const dialog = document.getElementById(target.dataset.open); if (dialog) dialog.showModal(); }
    else if ("close" in target.dataset) target.closest("dialog").close();
    else if ("copy" in target.dataset) copy(target);
    else if (target.dataset.theme) window.volactTheme(target.dataset.theme);
    else if ("help" in target.dataset || "helpClose" in target.dataset) toggleHelp();
    else if ("side" in target.dataset) toggleSide(target);
    else if ("print" in target.dataset) window.print();
  });
  document.addEventListener("click", function (event) {
    if (event.target instanceof HTMLDialogElement) event.target.close(); // the backdrop
    if (document.body.classList.contains("side-open") && !event.target.closest("#side,[data-side]")) toggleSide(document.querySelector("[data-side]"));
  });

  function copy(button) {
    const done = () => { say("Copied"); button.classList.add("copied"); setTimeout(() => button.classList.remove("copied"), 1500); };
    if (navigator.clipboard && window.isSecureContext) { navigator.clipboard.writeText(button.dataset.copy).then(done, () => fallback(button, done)); }
    else fallback(button, done);
  }
  function fallback(button, done) { // pages over plain HTTP behind a name
    const area = document.createElement("textarea");
    area.value = button.dataset.copy;
    area.className = "visually-hidden";
    (button.closest("dialog") || document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    done();
  }
  function say(text) { const live = document.getElementById("live"); if (live) { live.textContent = ""; live.textContent = text; } }

  function toggleHelp(show) {
    const panel = document.getElementById("help"), button = document.querySelector("[data-help]");
    if (!panel || !button) return;
    const open = show === undefined ? panel.hidden : show;
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    try { localStorage.setItem("volact-help", open ? "open" : "shut"); } catch (error) { /* not kept */ }
    if (show === undefined) (open ? panel.querySelector("[data-help-close]") : button).focus();
  }
  function toggleSide(button) {
    const open = document.body.classList.toggle("side-open");
    button.setAttribute("aria-expanded", String(open));
    if (open) document.querySelector("#side a").focus();
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && document.body.classList.contains("side-open")) toggleSide(document.querySelector("[data-side]")); });

  // ---- selections of rows
  document.addEventListener("change", function (event) {
    const all = event.target.dataset && event.target.dataset.all;
    if (all) $$('input[name="' + all + '"]').forEach((box) => { box.checked = event.target.checked; });
    const name = all || event.target.name;
    $$('[data-count="' + name + '"]').forEach((element) => {
      const chosen = $$('input[name="' + name + '"]:checked').length;
      element.textContent = String(chosen);
      const bar = element.closest("[data-when-chosen]");
      if (bar) bar.hidden = chosen === 0;
    });
  });

  // ---- fields that belong to one choice of another: data-when="kind:report" (several: apart by spaces; ! for all others)
  function showFields(form) {
    $$("[data-when]", form).forEach((part) => {
      const [name, wanted] = part.dataset.when.split(":"), chosen = form.elements[name] ? form.elements[name].value : "";
      const fits = wanted.startsWith("!") ? !wanted.slice(1).split(" ").includes(chosen) : wanted.split(" ").includes(chosen);
      part.hidden = !fits;
      $$("input,select,textarea", part).forEach((field) => { field.disabled = !fits; });
    });
  }
  document.addEventListener("change", (event) => { if (event.target.form) showFields(event.target.form); });

  // ---- forms are sent once
  document.addEventListener("submit", function (event) {
    const button = event.submitter;
    if (!button || event.target.method !== "post" || event.target.dataset.again !== undefined) return;
    setTimeout(() => { button.classList.add("sending"); button.setAttribute("aria-disabled", "true"); }, 0);
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  window.addEventListener("pageshow", (event) => { if (event.persisted) $$("form[data-sent]").forEach((form) => delete form.dataset.sent); });

  // ---- a part that comes anew by itself waits while somebody is in it, or keeps the keyboard's place
  document.addEventListener("htmx:beforeRequest", function (event) {
    const part = event.detail.elt;
    if ("calm" in part.dataset && (part.contains(document.activeElement) || part.querySelector("details[open]"))) event.preventDefault();
  });
  const FOCUSABLE = "a[href],button,input,select,textarea,summary,[tabindex]";
  let place = null;
  document.addEventListener("htmx:beforeSwap", function (event) {
    const root = event.detail.target, now = document.activeElement;
    if (!root.id || !root.contains(now)) return;
    place = { id: root.id, at: $$(FOCUSABLE, root).indexOf(now), text: now.textContent };
  });
  document.addEventListener("htmx:afterSettle", function () {
    const found = place && $$("#" + CSS.escape(place.id) + " :is(" + FOCUSABLE + ")")[place.at];
    if (found && found.textContent === place.text && document.activeElement === document.body) found.focus({ preventScroll: true });
    place = null;
  });

  function ready(root) { showTimes(root); drawCharts(root); }
  document.addEventListener("htmx:load", (event) => ready(event.target));
  document.addEventListener("DOMContentLoaded", function () {
    ready(document);
    markTheme();
    $$("form").forEach(showFields);
    $$("dialog[data-open-now]").forEach((dialog) => dialog.showModal());
    $$("form[data-send-now]").forEach((form) => form.requestSubmit());
    let help = null;
    try { help = localStorage.getItem("volact-help"); } catch (error) { /* not kept */ }
    if (help === "open" && window.matchMedia("(min-width: 1200px)").matches) toggleHelp(true);
  });
})();
