// Small tools of the page: making elements, writing numbers, asking the server.
// Whatever comes from a model or a server reaches the page as text, never as markup.

/** An element with properties, attributes (names with a dash, or "for") and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || name === "for" || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element of the page with this id. */
export const at = (id) => document.getElementById(id);

/** A number as people read it: about `digits` significant digits, exponents only where they help. */
export function figure(value, digits = 4) {
  if (value === null || value === undefined) return "not known";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value).replace("-", "−");
  const size = Math.abs(value);
  const plain = size !== 0 && (size < 1e-4 || size >= 1e9) ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
  return plain.replaceAll("-", "−");
}

/** One line of a list of facts; `value` is text or an element, `aside` says what it means. */
export function fact(list, name, value, aside) {
  const content = make("dd", {}, value);
  if (aside) content.append(make("span", { className: "aside" }, aside));
  list.append(make("dt", {}, name), content);
}

/** A digest, whole, so that it can be copied and compared. */
export function digest(value) {
  return value ? make("code", { className: "digest" }, value) : "none";
}

/** What the server says is wrong, as an error whose message is the server's own sentence. */
async function refused(response) {
  try {
    const body = await response.json();
    if (typeof body.error === "string") return new Error(body.error);
  } catch {
    // no JSON: say what is known
  }
  return new Error(`the server answered ${response.status} ${response.statusText}`.trim());
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Error("the server cannot be reached");
  }
}

/** GET or POST as JSON; returns the decoded body. */
export async function ask(path, body) {
  const response = await reach(path, options(body, "application/json"));
  if (!response.ok) throw await refused(response);
  return response.json();
}

/** GET or POST for a picture; returns the SVG's text. */
export async function askPicture(path, body) {
  const response = await reach(path, options(body, "image/svg+xml"));
  if (!response.ok) throw await refused(response);
  return response.text();
}

function options(body, accept) {
  if (body === undefined) return { headers: { Accept: accept } };
  const headers = { Accept: accept, "Content-Type": "application/json" };
  return { method: "POST", headers, body: JSON.stringify(body) };
}
