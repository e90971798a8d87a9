/* The bars above and below the face: progress, attributes, values and decisions, with their keys. */

import {byId, count, element, percent} from "./dom.js";

let drawnActions = "";

/** Draw the buttons of attributes, values and decisions for an item; nothing if they are the same as before. */
export function drawActions(page, item, attribute, {onAttribute, onValue}) {
  const names = Object.keys(page.session.attributes), values = page.session.attributes[attribute];
  const label = item?.labels[attribute], mine = label?.mine?.value ?? null;
  const isGiven = Boolean(item?.attribute), key = JSON.stringify([attribute, mine, label?.guess, isGiven]);
  document.querySelector("[data-do=accept]").disabled = !label || label.hidden || label.guess === null;
  document.querySelector("[data-do=undo]").disabled = !page.done.length;
  document.querySelector("[data-do=redo]").disabled = !page.undone.length;
  document.querySelector("[data-do=repeat]").disabled = !page.last;
  if (key === drawnActions) return;
  drawnActions = key;
  byId("attributes").hidden = names.length < 2;
  byId("attributes").replaceChildren(...names.map((name) => element("button", {type: "button", "aria-pressed": String(name === attribute), disabled: isGiven && name !== attribute,
    onclick: () => onAttribute(name)}, element("bdi", {}, name))), isGiven ? "" : element("kbd", {}, "Tab"));
  byId("values").replaceChildren(...values.map((value, index) => element("button", {type: "button", class: value === label?.guess ? "guessed" : null, "aria-pressed": String(value === mine),
    onclick: () => onValue(value)}, element("bdi", {}, value), index < 9 ? element("kbd", {}, String(index + 1)) : null)));
}

/** Draw what is answered; in an audit the precision so far, and how often reviewers agree. */
export function drawProgress(page) {
  const {num_answered: answered = 0, num_items: all = 0, num_pairs: pairs = 0, num_equal: equal = 0, precision = []} = page.progress ?? {};
  const parts = [`${count(answered)} of ${count(all)} answered`];
  if (page.items.total !== all) parts.push(`${count(page.items.total)} in the list`);
  if (pairs) parts.push(`reviewers agree on ${count(equal)} of ${count(pairs)}`);
  const [first] = precision;
  if (first) parts.push(first.precision === null ? "precision: not one judged yet" : `precision so far ${percent(first.precision)} (95 % interval ${percent(first.lower)}–${percent(first.upper)})`);
  byId("progress-text").textContent = parts.join(" · ");
  byId("progress-text").title = precision.map((one) => `${one.name}: ${one.num_answered} of ${one.num_sampled} answered, ${one.precision === null ? "–" : percent(one.precision, 1)}, interval ${percent(one.lower, 1)} to ${percent(one.upper, 1)}`).join("\n");
  byId("progress-bar").value = all ? answered / all : 0;
}
