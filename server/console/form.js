// The input of one row: a form of features, an image to upload, or the instance as JSON; always pre-filled with a real
// example where the model has one. Each kind gives an object with `instance()`: the V1 instance to send.

import { make } from "./page.js";

/** Builds the fields for `model` inside `place`; returns { note, instance }. */
export function build(model, place) {
  place.replaceChildren();
  if (model.kind === "tabular" && model.features?.length) return tabular(model, place);
  if (model.kind === "image") return image(model, place);
  return json(model, place);
}

function tabular(model, place) {
  const fields = new Map();
  const groups = new Map();
  model.features.forEach((feature, position) => {
    const value = Array.isArray(model.example) ? model.example[position] : model.example?.[feature.name];
    const control = feature.kind === "category" ? choice(feature, value) : number(feature, value);
    control.addEventListener("input", () => control.classList.toggle("changed", control.value !== String(value ?? "")));
    control.name = feature.name;
    fields.set(feature, control);
    const unit = feature.unit ? make("span", { className: "unit" }, ` (${feature.unit})`) : null;
    const label = make("label", { className: "field" }, make("span", {}, feature.label || feature.name, unit), control);
    const group = feature.group || "";
    if (!groups.has(group)) groups.set(group, []);
    groups.get(group).push(label);
  });
  for (const [group, labels] of groups) {
    const grid = make("div", { className: "grid" }, ...labels);
    place.append(group ? make("fieldset", {}, make("legend", {}, group), grid) : grid);
  }
  const instance = () => {
    // No prototype: a feature may be called "__proto__".
    const row = Object.create(null);
    for (const [feature, control] of fields) {
      if (control.value === "") continue; // the server names what is missing
      row[feature.name] = feature.kind === "category" ? control.value : Number(control.value);
    }
    return row;
  };
  const note = model.example ? "Filled with a real row the model was not trained on. Change what you like." : "Fill in one row.";
  return { note, instance };
}

function number(feature, value) {
  return make("input", {
    type: "number", step: "any", required: true, value: value ?? "", min: feature.minimum ?? "", max: feature.maximum ?? "",
  });
}

function choice(feature, value) {
  const options = feature.levels.map((level) => make("option", { value: level.value }, level.label || level.value));
  const select = make("select", {}, ...options);
  select.value = value ?? feature.levels[0]?.value ?? "";
  return select;
}

function image(model, place) {
  let encoded = model.example?.b64 ?? null;
  const shown = make("img", { alt: "The image that will be sent" });
  shown.addEventListener("load", () => {
    shown.classList.toggle("tiny", Math.max(shown.naturalWidth, shown.naturalHeight) <= 128);
  });
  const show = (source) => {
    shown.hidden = !source;
    if (source) shown.src = source;
  };
  show(encoded ? `data:image/png;base64,${encoded}` : null);
  const file = make("input", { type: "file", name: "image", accept: "image/png,image/jpeg" });
  let reading = Promise.resolve();
  file.addEventListener("change", () => {
    const chosen = file.files[0];
    if (!chosen) return;
    reading = base64(chosen).then((text) => {
      encoded = text;
      show(`data:${chosen.type || "image/png"};base64,${text}`);
    });
  });
  const label = make("label", { className: "field" }, make("span", {}, "An image (PNG or JPEG)"), file);
  place.append(make("div", { className: "upload" }, shown, label));
  const instance = async () => {
    await reading;
    if (!encoded) throw new Error("choose an image first");
    return { b64: encoded };
  };
  const note = model.example ? "This is a real image the model was not trained on. Upload your own to replace it." : "Upload one image.";
  return { note, instance };
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(new Error(`the file ${file.name} cannot be read`)));
    reader.readAsDataURL(file);
  });
}

function json(model, place) {
  const text = make("textarea", { name: "instance", spellcheck: false });
  text.value = model.example === undefined || model.example === null ? "" : JSON.stringify(model.example, null, 1);
  place.append(make("label", { className: "field" }, make("span", {}, "One instance, as JSON"), text));
  const instance = () => {
    try {
      return JSON.parse(text.value);
    } catch (error) {
      throw new Error(`the instance is no JSON: ${error.message}`);
    }
  };
  return { note: "One row of the model's inputs, as the V1 protocol writes it.", instance };
}
