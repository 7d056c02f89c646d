// The console: pick a model, fill in one row or upload an image, press one button, see the answer and its why.

import * as answers from "./answer.js";
import { build } from "./form.js";
import { ask, askPicture, at, digest, fact, figure, make } from "./page.js";

let chosen = null; // { model, form }
let latest = 0; // number of the newest request: an answer that comes later than a newer question is dropped

async function start() {
  at("form").addEventListener("submit", submit);
  at("reset").addEventListener("click", () => choose(chosen.model));
  at("method").addEventListener("change", describeMethod);
  let models;
  try {
    models = await ask("/console/models");
  } catch (error) {
    at("models-note").textContent = `The models cannot be listed: ${error.message}`;
    return;
  }
  at("models-note").textContent = models.length ? "" : "The store holds no model yet. Train or import one, then reload this page.";
  at("models").append(...models.map(entry));
  if (models.length) choose(models.find((model) => `#${encodeURIComponent(model.name)}` === location.hash) ?? models[0]);
}

function entry(model) {
  const button = make("button", { type: "button" },
    make("span", { className: "name" }, model.name),
    make("span", { className: "small" }, `version ${model.version}`),
    make("span", { className: "small digest", title: model.digest }, String(model.digest).slice(0, 16)));
  button.dataset.model = model.name;
  button.addEventListener("click", () => choose(model));
  return make("li", {}, button);
}

function choose(model) {
  latest += 1;
  for (const button of at("models").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.model === model.name));
  }
  history.replaceState(null, "", `#${encodeURIComponent(model.name)}`);
  at("work").hidden = false;
  at("answer").hidden = true;
  setBusy(false);
  say("");
  at("model-title").textContent = model.name;
  at("model-description").textContent = model.description || "";
  showFacts(model);
  const form = build(model, at("inputs"));
  at("input-note").textContent = form.note;
  at("reset").hidden = model.example === undefined || model.example === null;
  chosen = { model, form };
  offerMethods(model);
  offerTargets(model);
}

function showFacts(model) {
  const facts = at("model-facts");
  facts.replaceChildren();
  fact(facts, "Version", String(model.version));
  fact(facts, "Model digest", digest(model.model_digest));
  const metrics = Object.entries(model.metrics ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${figure(value, 3)}`);
  if (metrics.length) fact(facts, "Measured", metrics.join(" · "));
}

function offerMethods(model) {
  const offered = model.explainers ?? [];
  at("method").replaceChildren(...offered.map((method) => make("option", { value: method.name }, method.name.replaceAll("_", " "))));
  if (model.default_method) at("method").value = model.default_method;
  if (at("method").selectedIndex < 0) at("method").selectedIndex = 0;
  at("go").textContent = offered.length ? "Predict and explain" : "Predict";
  at("method").disabled = !offered.length;
  describeMethod();
}

function describeMethod() {
  const { model } = chosen;
  const method = model.explainers?.find(({ name }) => name === at("method").value);
  const refused = (model.refused ?? []).map(({ name, reason }) => `${name.replaceAll("_", " ")} (${reason})`);
  const parts = [method ? method.summary : "This model offers no explanation method."];
  if (refused.length) parts.push(`Not offered: ${refused.join("; ")}.`);
  at("method-note").textContent = parts.filter(Boolean).join(" ");
}

function offerTargets(model) {
  const named = (model.outputs ?? []).find((output) => output.class_names?.length > 1);
  at("target-field").hidden = !named || !model.explainers?.length;
  const options = (named?.class_names ?? []).map((name, index) => make("option", { value: String(index) }, name));
  at("target").replaceChildren(make("option", { value: "" }, "the predicted class"), ...options);
}

async function submit(event) {
  event.preventDefault();
  const { model, form } = chosen;
  const mine = (latest += 1);
  const current = () => mine === latest;
  setBusy(true);
  say("Asking the model …");
  try {
    const body = { instances: [await form.instance()] };
    if (model.explainers?.length) await explain(model, body, current);
    else await predict(model, body, current);
    if (current()) say("");
  } catch (error) {
    if (!current()) return;
    at("answer").hidden = true;
    say("", error.message);
  } finally {
    if (current()) setBusy(false);
  }
}

const address = (model, verb) => `/v1/models/${encodeURIComponent(model.name)}:${verb}`;

async function predict(model, body, current) {
  const answer = await ask(address(model, "predict"), body);
  if (!current()) return;
  answers.showPrediction(model, answer);
  answers.showNoPicture("this model offers no explanation method");
  answers.showQuality(null);
  answers.showRecord(answer, null);
  answers.showNumbers(null);
  reveal();
}

async function explain(model, body, current) {
  body.method = at("method").value;
  if (at("target").value !== "") body.target = Number(at("target").value);
  const answer = await ask(address(model, "explain"), body);
  if (!current()) return;
  const explanation = answer.explanations[0];
  answers.showPrediction(model, answer);
  answers.showQuality(explanation);
  answers.showRecord(answer, explanation);
  answers.showNumbers(explanation);
  answers.showNoPicture("it is being drawn");
  reveal();
  say("Drawing the picture …");
  try {
    // From the record, so that one question is one decision; a server that keeps none is asked a second time.
    const decision = answer.decisions?.[0];
    const svg = decision
      ? await askPicture(`/v1/decisions/${encodeURIComponent(decision)}/picture`)
      : await askPicture(address(model, "explain"), body);
    if (current()) answers.showPicture({ svg, decision });
  } catch (error) {
    if (current()) answers.showNoPicture(error.message);
  }
}

function reveal() {
  at("answer").hidden = false;
  at("answer").focus({ preventScroll: true });
  at("answer").scrollIntoView({ block: "start" });
}

function setBusy(busy) {
  at("go").disabled = busy;
  at("form").setAttribute("aria-busy", String(busy));
}

function say(status, error = "") {
  at("status").textContent = status;
  at("error").textContent = error;
  at("error").hidden = !error;
}

start();
