// Texts in, labels and probabilities out. Everything comes from this server; nothing is kept but the token, in this tab.

import { make, showCard } from "./card.js";
import { decode, readTable, writeTable } from "./csv.js";

const SHOWN_ANSWERS = 100;
const SHOWN_LABELS = 6;
const TEXTS_AT_ONCE = 100;
const LARGEST_FILE = 50 * 2 ** 20;
const at = (id) => document.getElementById(id);

const state = { models: [], limits: {}, model: null, table: null, answers: null, running: null };

// --- talking to the server -------------------------------------------------------------------------------------------

function headers() {
  const token = sessionStorage.getItem("token");
  return { "content-type": "application/json", ...(token ? { authorization: `Bearer ${token}` } : {}) };
}

async function ask(path, options = {}) {
  for (;;) {
    const answer = await fetch(path, { ...options, headers: headers() });
    if (answer.status === 503) {  // the queue is full: wait as told, then try again
      await pause(Number(answer.headers.get("retry-after") ?? 1) * 1000, options.signal);
      continue;
    }
    const body = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status });
    return body;
  }
}

function pause(milliseconds, signal) {
  return new Promise((done, stopped) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); stopped(signal.reason); }, { once: true });
  });
}

async function start() {
  try {
    const found = await ask("models");
    state.models = found.models;
    state.limits = found.limits;
  } catch (problem) {
    at("main").hidden = true;
    at("login").hidden = problem.status !== 401;
    if (problem.status !== 401) return fail(problem);
    if (sessionStorage.getItem("token")) at("login-why").textContent = "That token was not accepted; try again.";
    sessionStorage.removeItem("token");
    return at("token").focus();
  }
  at("login").hidden = true;
  at("main").hidden = false;
  at("pick").hidden = state.models.length < 2;
  at("model").replaceChildren(...state.models.map((m, i) => make("option", { value: i }, `${m.name}, version ${m.alias ?? m.version}`)));
  choose(0);
}

// --- the form --------------------------------------------------------------------------------------------------------

const columnsOf = (model) => [...model.text_columns, ...model.feature_columns];

function choose(index) {
  state.model = state.models[index];
  showCard(state.model, at("card-title"), at("card-body"));
  const columns = columnsOf(state.model);
  const fields = columns.length === 1
    ? [field("text", "Texts, one per line", make("textarea", { rows: 6, placeholder: "Paste or type texts here" }))]
    : columns.map((name, i) => field(`text-${i}`, name, i < state.model.text_columns.length
      ? make("textarea", { rows: 3 }) : make("input", { type: "text" })));
  at("fields").replaceChildren(...fields);
  showColumns();
}

function field(id, name, input) {
  input.id = id;
  input.className = "given";
  return make("div", { class: "field" }, make("label", { for: id }, name), input);
}

async function open(file) {
  state.table = null;
  said("");
  try {
    if (file.size > LARGEST_FILE) throw new Error(`${file.name} has over 50 MB: use headstart predict for large files.`);
    const table = readTable(decode(await file.arrayBuffer()));
    if (!table.rows.length) throw new Error(`${file.name} holds no rows below its first line, which names the columns.`);
    state.table = { ...table, name: file.name };
  } catch (problem) {
    fail(problem);
  }
  showColumns();
}

/** Ask which column of the file is which of the model's; those of the same name are chosen already. */
function showColumns() {
  const { table } = state;
  at("file-state").textContent = table ? `${table.name}: ${table.rows.length.toLocaleString("en")} rows` : "";
  at("columns").hidden = !table;
  at("go").textContent = table ? "Label the file" : "Label";
  if (!table) return;
  const wanted = columnsOf(state.model);
  at("columns").replaceChildren(...wanted.map((name, i) => {
    const select = make("select", { id: `column-${i}` }, ...table.columns.map((c, n) => make("option", { value: n }, c)));
    const same = table.columns.findIndex((c) => c.toLowerCase() === name.toLowerCase());
    select.value = String(same >= 0 ? same : wanted.length === 1 ? longest(table) : Math.min(i, table.columns.length - 1));
    const words = wanted.length === 1 ? "Column with the texts" : `Column for ${name}`;
    return make("span", {}, make("label", { for: select.id }, words), " ", select);
  }));
}

function longest({ columns, rows }) {
  const first = rows.slice(0, 50);
  const sizes = columns.map((_, c) => first.reduce((sum, row) => sum + (row[c] ?? "").length, 0));
  return sizes.indexOf(Math.max(...sizes));
}

/** Return what is to be labeled: one text, or one object per row where the model reads several columns. */
function given() {
  const columns = columnsOf(state.model);
  const whole = (cells) => (columns.length === 1 ? cells[0] : Object.fromEntries(columns.map((c, i) => [c, cells[i]])));
  if (state.table) {
    const chosen = columns.map((_, i) => Number(at(`column-${i}`).value));
    return state.table.rows.map((row) => whole(chosen.map((c) => row[c] ?? "")));
  }
  const values = [...document.querySelectorAll(".given")].map((input) => input.value);
  if (columns.length > 1) return values.some((v) => v.trim()) ? [whole(values)] : [];
  return values[0].split(/\r?\n/).filter((line) => line.trim());
}

// --- labeling --------------------------------------------------------------------------------------------------------

async function label() {
  const texts = given();
  fail(null);
  if (!texts.length) {
    said("There is no text yet: type or paste some, or choose a file.");
    document.querySelector(".given").focus();
    return;
  }
  const model = state.model;
  const running = new AbortController();
  state.running = running;
  state.answers = { model, texts, table: state.table, predictions: [], version: model.version };
  busy(true);
  try {
    const pieces = parts(texts);
    for (const piece of pieces) {
      if (pieces.length > 1) said(`${state.answers.predictions.length.toLocaleString("en")} of ${texts.length.toLocaleString("en")} labeled`);
      const body = JSON.stringify({ texts: piece, model: model.name, version: model.alias ?? model.version });
      const found = await ask("predict", { method: "POST", body, signal: running.signal });
      state.answers.predictions.push(...found.predictions);
      state.answers.version = found.version;
    }
    said(`${texts.length.toLocaleString("en")} ${texts.length === 1 ? "text" : "texts"} labeled.`);
  } catch (problem) {
    if (running.signal.aborted) said(`Stopped: ${state.answers.predictions.length.toLocaleString("en")} of ${texts.length.toLocaleString("en")} labeled.`);
    else fail(problem);
  }
  busy(false);
  showAnswers();
}

/** Cut a list so that no request is larger than the server takes; each part answers within moments. */
function parts(texts) {
  const most = Math.min(TEXTS_AT_ONCE, state.limits.max_texts);
  const room = state.limits.max_body_bytes * 0.9 - 1000;
  const out = [];
  let size = Infinity;
  for (const text of texts) {
    const bytes = new TextEncoder().encode(JSON.stringify(text)).length + 1;
    if (size + bytes > room || out.at(-1).length >= most) { out.push([]); size = 0; }
    out.at(-1).push(text);
    size += bytes;
  }
  return out;
}

function busy(is) {
  at("go").disabled = is;
  at("stop").hidden = !is;
  at("texts-form").setAttribute("aria-busy", String(is));
}

// --- answers ---------------------------------------------------------------------------------------------------------

function showAnswers() {
  const { predictions, texts, model, version } = state.answers;
  at("results").hidden = !predictions.length;
  if (!predictions.length) return;
  const counts = new Map();
  for (const { label: name } of predictions) counts.set(String(name), (counts.get(String(name)) ?? 0) + 1);
  at("results-title").textContent = `Answers of ${model.name}, version ${version}`;
  at("summary").hidden = predictions.length < 2;
  at("summary").replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) =>
    make("li", {}, make("strong", {}, name), ` ${count.toLocaleString("en")} (${share(count / predictions.length)})`)));
  at("list").replaceChildren(...predictions.slice(0, SHOWN_ANSWERS).map((p, i) => answer(texts[i], p)));
  const rest = predictions.length - SHOWN_ANSWERS;
  at("more").textContent = rest > 0 ? `${rest.toLocaleString("en")} more are in the download.` : "";
  at("results-title").focus();
}

function answer(text, prediction) {
  const shown = typeof text === "string" ? text : Object.entries(text).map(([k, v]) => `${k}: ${v}`).join("\n");
  const ordered = Object.entries(prediction.probabilities).sort((a, b) => b[1] - a[1]);
  const rest = ordered.slice(SHOWN_LABELS);
  const bars = ordered.slice(0, SHOWN_LABELS).map(([name, p], i) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${p * 100}%`;
    return make("li", i ? {} : { class: "best" }, make("span", { class: "name" }, name), " ",
      make("span", { class: "share" }, share(p)), make("span", { class: "track", "aria-hidden": "true" }, bar));
  });
  if (rest.length) bars.push(make("li", { class: "quiet" }, `${rest.length} more, together ${share(rest.reduce((s, r) => s + r[1], 0))}`));
  return make("li", {},
    make("div", {}, make("h3", {}, String(prediction.label)), make("p", { class: "text", dir: "auto" }, shown)),
    make("ul", { class: "bars", "aria-label": "Probabilities" }, ...bars));
}

function share(p) {
  const percent = p * 100;
  return `${percent > 99.9 && percent < 100 ? ">99.9" : percent < 0.1 && percent > 0 ? "<0.1" : percent.toFixed(1)}%`;
}

function download() {
  const { predictions, texts, table, model } = state.answers;
  const names = Object.keys(predictions[0].probabilities);
  const columns = table ? table.columns : columnsOf(model);
  const rows = predictions.map((p, i) => {
    const cells = table ? columns.map((_, c) => table.rows[i][c] ?? "") : typeof texts[i] === "string" ? [texts[i]] : Object.values(texts[i]);
    return [...cells, p.label, ...names.map((n) => p.probabilities[n])];
  });
  const file = new Blob([writeTable([...columns, "prediction", ...names.map((n) => `p_${n}`)], rows)], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(file), download: "labeled.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// --- words and events ------------------------------------------------------------------------------------------------

function said(words) {
  at("status").textContent = words;
}

function fail(problem) {
  at("problem").hidden = !problem;
  at("problem").textContent = problem ? (problem instanceof TypeError ? "The server cannot be reached. Does it still run?" : problem.message) : "";
  if (!problem) return;
  said("");
  if (problem.status === 401) return void start();
  at("main").hidden = false;
  at("problem").focus();
}

function clear() {
  state.table = null;
  at("file").value = "";
  document.querySelectorAll(".given").forEach((input) => { input.value = ""; });
  at("results").hidden = true;
  fail(null);
  said("");
  showColumns();
  document.querySelector(".given").focus();
}

at("texts-form").addEventListener("submit", (event) => { event.preventDefault(); if (!at("go").disabled) label(); });
at("texts-form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("texts-form").requestSubmit();
});
at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value.trim());
  at("token").value = "";
  start();
});
at("model").addEventListener("change", (event) => choose(Number(event.target.value)));
at("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
at("clear").addEventListener("click", clear);
at("stop").addEventListener("click", () => state.running?.abort());
at("download").addEventListener("click", download);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}
start();
