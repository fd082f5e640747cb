// The model's card: what it knows, how good it was on rows it had not seen, what it reads of a text.

const METRICS = {
  accuracy: "Accuracy", macro_f1: "Macro F1", roc_auc: "ROC AUC", matthews: "Matthews correlation", log_loss: "Log loss",
};
const KEPT = { head: "its beginning is read", tail: "its end is read", "head-tail": "its beginning and its end are read" };

/** Make an element: attributes by name, then children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Fill the card of a model. */
export function showCard(model, title, body) {
  title.textContent = model.name;
  const version = `Version ${model.version}${model.alias ? ` (${model.alias})` : ""}, made by ${model.strategy || "hand"}`;
  body.replaceChildren(
    make("p", { class: "quiet" }, version),
    make("h3", {}, `${model.labels.length} labels`),
    make("ul", { class: "chips" }, ...model.labels.map((label) => make("li", {}, String(label)))),
    ...metricsOf(model.metrics),
    make("h3", {}, "What it reads"),
    make("p", {}, reading(model)),
    usage(model),
  );
}

function metricsOf(metrics) {
  const names = [...Object.keys(METRICS), ...Object.keys(metrics).filter((name) => !(name in METRICS))];
  const rows = names.filter((name) => typeof metrics[name]?.value === "number").map((name) => {
    const { value, low, high, higher_is_better: up } = metrics[name];
    const ends = typeof low === "number" && typeof high === "number" ? `${low.toFixed(3)} – ${high.toFixed(3)}` : "–";
    const said = (METRICS[name] ?? name) + (up === false ? " (lower is better)" : "");
    return make("tr", {}, make("th", { scope: "row" }, said), make("td", {}, value.toFixed(3)), make("td", {}, ends));
  });
  if (!rows.length) return [make("p", { class: "quiet" }, "It brings no metrics with it.")];
  const head = ["Metric", "Value", "95% interval"].map((word) => make("th", { scope: "col" }, word));
  return [
    make("h3", { id: "metrics-title" }, "On texts it had not seen"),
    make("table", { "aria-labelledby": "metrics-title" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
  ];
}

function reading(model) {
  const columns = [...model.text_columns, ...model.feature_columns];
  const named = columns.length > 1 ? `It reads the columns ${columns.join(", ")}. ` : "";
  if (model.max_length === null) return `${named}The whole text is read, however long.`;
  const words = Math.max(1, Math.round((model.max_length * 0.75) / 10) * 10);
  return `${named}At most ${model.max_length} tokens (about ${words} English words). Of a longer text ${KEPT[model.truncate]}; the rest is cut off.`;
}

function usage(model) {
  const row = Object.fromEntries([...model.text_columns, ...model.feature_columns].map((name) => [name, "…"]));
  const several = model.text_columns.length + model.feature_columns.length > 1;
  const body = JSON.stringify({ texts: [several ? row : "…"], model: model.name, version: model.version });
  const command = `curl ${location.origin}/predict \\\n  -H 'content-type: application/json' \\\n  -d '${body.replaceAll("'", "'\\''")}'`;
  return make("details", {}, make("summary", {}, "Ask from a program"), make("pre", { tabindex: "0" }, command));
}
