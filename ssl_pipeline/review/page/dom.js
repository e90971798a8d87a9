/* Elements, texts and numbers. All text reaches the page as text nodes: nothing here reads HTML. */

export const byId = (id) => document.getElementById(id);

/** Build an element: attributes (`onclick` and other functions are listeners; false and null are left out), children. */
export function element(tag, attributes = {}, ...children) {
  const built = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") built.addEventListener(name.slice(2), value);
    else built.setAttribute(name, value === true ? "" : value);
  }
  built.append(...children.filter((child) => child !== null));
  return built;
}

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}\u00a0%`;

/** A confidence, rounded down, so that 0.9996 is no certainty. */
export const confidence = (number) => percent(Math.floor(number * 1000) / 1000, 1);

export const count = (number) => number.toLocaleString("en");

/** A new identifier, 32 hexadecimal digits. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

let timer = 0;

/** Show a short message; screen readers speak it. */
export function toast(text, {isError = false} = {}) {
  const line = byId("toast");
  line.textContent = text;
  line.classList.toggle("error", isError);
  line.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(() => line.classList.remove("shown"), isError ? 6000 : 1600);
}

/** Ask the server; a refusal is an Error with its words and `status`. */
export async function ask(path, {query = {}, body} = {}) {
  const text = new URLSearchParams(query).toString();
  const response = await fetch(text ? `${path}?${text}` : path, body === undefined ? {} : {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
  });
  if (!response.ok) {
    const words = await response.text();
    let message = words;
    try { message = JSON.parse(words).error; } catch { /* plain text */ }
    throw Object.assign(new Error(message), {status: response.status});
  }
  return response.json();
}
