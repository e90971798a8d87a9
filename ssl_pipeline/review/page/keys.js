/* The keys: what each does, shown on the buttons and under ?, and asleep while one types. */

import {byId, element} from "./dom.js";

const SHOWN = [
  ["← → ↑ ↓", "move; they never decide"], ["Enter, A", "accept the guess, and go to the next undecided face"],
  ["X, R", "reject: no value is right; and go on"], ["1 … 9", "this value; and go on"], ["Space", "unsure: set aside; and go on"],
  ["Tab", "next attribute (Shift+Tab leaves the face)"], ["U, Shift+U", "undo, redo"], [".", "repeat the last decision"],
  ["N", "next undecided face"], ["G", "grid or single face"], ["Shift+arrows", "select in the grid; the same keys decide for all of them"],
  ["F", "filters"], ["/", "search"], ["M", "map; drag to draw a lasso"], ["Esc", "close; clear the selection"], ["?", "these keys"],
];

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const LETTERS = {a: "accept", x: "reject", r: "reject", u: "undo", n: "nextUndecided", g: "grid", f: "filters", m: "map", ".": "repeat", "/": "search", "?": "keys"};

/** `commands`: accept(), reject(), …, move(columns, rows, isSelecting), value(index), escape(), nextAttribute(). */
export function listen(commands, {hasAttributes}) {
  byId("keys").querySelector("dl").replaceChildren(...SHOWN.flatMap(([keys, words]) => [element("dt", {}, element("kbd", {}, keys)), element("dd", {}, words)]));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) { event.target.blur?.(); commands.escape(); return; }
    if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
    const command = commandOf(event, commands, hasAttributes);
    if (command) { event.preventDefault(); command(); }
  });
}

function commandOf(event, commands, hasAttributes) {
  const {key, target} = event, isOnControl = target.closest?.("button, a, summary") !== null && target !== document;
  if (key === "Enter" || key === " ") return isOnControl ? null : () => commands[key === "Enter" ? "accept" : "unsure"]();
  if (key === "Tab") return hasAttributes && !event.shiftKey && target.closest?.("#main") ? () => commands.nextAttribute() : null;
  if (key in ARROWS) return () => commands.move(...ARROWS[key], event.shiftKey);
  if (/^[1-9]$/.test(key)) return () => commands.value(Number(key) - 1);
  if (key.toLowerCase() === "u" && event.shiftKey) return () => commands.redo();
  const name = LETTERS[key.toLowerCase()];
  return name ? () => commands[name]() : null;
}

function isTyping(target) {
  return Boolean(target.closest?.("input, textarea, select, [contenteditable]"));
}
