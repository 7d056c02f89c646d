// The answer: prediction, picture, quality figures, and what made it.

import { at, digest, fact, figure, make } from "./page.js";

const CLASSES_SHOWN = 12;

// What each quality figure means, in the words of somebody who has to decide whether to believe it.
const MEANINGS = {
  completeness_gap: ["Completeness gap", "what the attributions leave unexplained; 0 is perfect"],
  completeness_gap_relative: ["… relative", "the gap as a share of what was to be explained"],
  forward_gap: ["Forward gap", "explained program against served model, same input; 0 is perfect"],
  evaluations: ["Evaluations", "how often the model was run for this explanation"],
  standard_error: ["Standard error", "of the least certain attribution"],
  quadrature_error: ["Quadrature error", "of the least certain attribution"],
  sparsity: ["Concentration", "Gini index: 0 is spread evenly, 1 is all in one place"],
  max_abs: ["Largest attribution", "by magnitude"],
  nan_count: ["Not-a-number values", "anything above 0 is a fault"],
};

/** Shows the prediction of the one row of `answer`. */
export function showPrediction(model, answer) {
  const place = at("prediction");
  place.replaceChildren();
  const outputs = model.outputs ?? [];
  const named = outputs.find((output) => output.class_names?.length > 1);
  const raw = answer.predictions[0];
  const values = named ? valueOf(raw, named.name) : undefined;
  const chances = named ? probabilities(values, named) : null;
  if (!chances) {
    for (const [name, value, unit] of plainValues(raw, outputs)) {
      place.append(make("p", { className: "verdict" }, `${figure(value)}${unit}`, make("span", { className: "chance" }, ` ${name}`)));
    }
    return;
  }
  const ranked = chances.map((chance, index) => ({ name: named.class_names[index], chance })).sort((a, b) => b.chance - a.chance);
  const label = answer.labels?.[0] || ranked[0].name;
  const chosen = ranked.find((entry) => entry.name === label) ?? ranked[0];
  place.append(make("p", { className: "verdict" }, label, make("span", { className: "chance" }, ` · probability ${percent(chosen.chance)}`)));
  place.append(chart(ranked.slice(0, CLASSES_SHOWN), label));
  const notes = [];
  if (ranked.length > CLASSES_SHOWN) notes.push(`${ranked.length - CLASSES_SHOWN} less likely classes are not shown.`);
  if (named.kind === "logits") notes.push("Probabilities are computed here from the model's logits.");
  if (notes.length) place.append(make("p", { className: "note" }, notes.join(" ")));
}

function chart(entries, label) {
  const rows = entries.map(({ name, chance }) => make("tr", { className: name === label ? "chosen" : "" },
    make("th", { scope: "row" }, name),
    make("td", {}, make("progress", { max: 1, value: chance, "aria-label": `${name}: ${percent(chance)}` })),
    make("td", {}, percent(chance))));
  return make("table", { className: "chances" }, make("tbody", {}, ...rows));
}

function percent(chance) {
  if (chance > 0 && chance < 0.0005) return "< 0.1 %";
  if (chance < 1 && chance > 0.9995) return "> 99.9 %";
  return `${(100 * chance).toFixed(1)} %`;
}

function valueOf(raw, name) {
  return raw !== null && typeof raw === "object" && !Array.isArray(raw) ? raw[name] : raw;
}

function plainValues(raw, outputs) {
  const byName = raw !== null && typeof raw === "object" && !Array.isArray(raw) ? Object.entries(raw) : [[outputs[0]?.name ?? "value", raw]];
  return byName.map(([name, value]) => {
    const spec = outputs.find((output) => output.name === name);
    const flat = [value].flat(Infinity);
    const shown = flat.length === 1 ? flat[0] : flat.slice(0, 8).map((entry) => figure(entry)).join(", ") + (flat.length > 8 ? ", …" : "");
    return [spec?.label || name, shown, spec?.unit ? ` ${spec.unit}` : ""];
  });
}

/** Probabilities of the classes of an output, or null where its numbers are no classification of one row. */
export function probabilities(values, output) {
  const flat = [values].flat(Infinity);
  const names = output.class_names;
  if (!flat.every((value) => typeof value === "number")) return null;
  if (flat.length === 1 && names.length === 2) {
    const second = output.kind === "logits" ? 1 / (1 + Math.exp(-flat[0])) : flat[0];
    return [1 - second, second];
  }
  if (flat.length !== names.length) return null;
  if (output.kind === "probabilities") return flat;
  if (output.kind !== "logits") return null;
  const largest = Math.max(...flat);
  const powers = flat.map((value) => Math.exp(value - largest));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

/** Shows the SVG as an image: an image runs no script, whatever it holds. */
export function showPicture({ svg, decision }) {
  const place = at("picture");
  clearPicture();
  const described = new DOMParser().parseFromString(svg, "image/svg+xml");
  const words = ["title", "desc"].map((tag) => described.querySelector(`svg > ${tag}`)?.textContent ?? "").filter(Boolean);
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  const image = make("img", { alt: words.join(". "), src: url });
  place.append(image);
  const caption = make("figcaption", {}, make("a", { href: url, download: "explanation.svg" }, "Save the picture"));
  if (decision) caption.append(" · recorded as ", decisionLink(decision));
  place.append(caption);
}

/** Says why there is no picture. */
export function showNoPicture(reason) {
  clearPicture();
  at("picture").append(make("figcaption", {}, `No picture: ${reason}`));
}

function clearPicture() {
  const image = at("picture").querySelector("img");
  if (image) URL.revokeObjectURL(image.src);
  at("picture").replaceChildren();
}

/** A link to the record of a decision. */
function decisionLink(id) {
  return make("a", { href: `/v1/decisions/${encodeURIComponent(id)}` }, make("code", {}, id));
}

/** Shows the quality figures of an explanation. */
export function showQuality(explanation) {
  const list = at("quality");
  list.replaceChildren();
  const quality = explanation?.quality ?? {};
  const known = Object.keys(MEANINGS).filter((name) => quality[name] !== undefined && quality[name] !== null);
  const others = Object.keys(quality).filter((name) => !(name in MEANINGS) && typeof quality[name] === "number");
  for (const name of known) fact(list, MEANINGS[name][0], figure(quality[name]), MEANINGS[name][1]);
  for (const name of others) fact(list, name.replaceAll("_", " "), figure(quality[name]));
  if (!known.length && !others.length) list.append(make("dd", {}, "There are no figures for this answer."));
}

/** Shows what was explained, by which model and method, and where it is recorded. */
export function showRecord(answer, explanation) {
  const list = at("record");
  list.replaceChildren();
  if (explanation) showExplained(list, explanation);
  fact(list, "Model", `${answer.model_name}, version ${answer.model_version}`);
  fact(list, "Model digest", digest(answer.model_digest));
  if (answer.program_digest) fact(list, "Program digest", digest(answer.program_digest));
  const decision = answer.decisions?.[0];
  fact(list, "Decision", decision ? decisionLink(decision) : "not recorded: this server keeps no decisions");
}

function showExplained(list, explanation) {
  const units = explanation.units && explanation.units !== explanation.explained_name ? ` ${explanation.units}` : "";
  fact(list, "Explained", `${explanation.explained_name ?? "output"} of ${explanation.target?.name ?? "the output"}`);
  fact(list, "Explained value", `${figure(explanation.explained_value, 6)}${units}`);
  if (explanation.base_value !== null && explanation.base_value !== undefined) {
    fact(list, "Base value", `${figure(explanation.base_value, 6)}${units}`);
  }
  const parameters = Object.entries(explanation.parameters ?? {}).filter(([, value]) => value !== null && typeof value !== "object");
  fact(list, "Method", explanation.method, parameters.map(([name, value]) => `${name} ${figure(value)}`).join(", "));
  fact(list, "Seed", figure(explanation.seed));
  if (explanation.approximations?.length) fact(list, "Gradients rest on", explanation.approximations.join(", "));
}

/** Shows the attributions of named features as a table, for those who read numbers or hear the page. */
export function showNumbers(explanation) {
  const place = at("numbers");
  place.replaceChildren();
  const entries = explanation?.attributions;
  if (!Array.isArray(entries) || !entries.length) return;
  const ranked = [...entries].sort((a, b) => Math.abs(b.attribution) - Math.abs(a.attribution));
  const head = make("tr", {}, ...["Feature", "Value", "Attribution"].map((name) => make("th", { scope: "col" }, name)));
  const rows = ranked.map((entry) => make("tr", {},
    make("th", { scope: "row" }, entry.label || entry.feature),
    make("td", {}, [entry.shown, entry.unit].filter(Boolean).join(" ")),
    make("td", { className: "figure" }, figure(entry.attribution))));
  place.append(make("details", {}, make("summary", {}, "The attributions as numbers"),
    make("table", { className: "numbers" }, make("thead", {}, head), make("tbody", {}, ...rows))));
}
