/* The review page: its state, the decisions, and what is drawn when. */

import {drawActions, drawProgress} from "./bars.js";
import {drawDetails} from "./details.js";
import {ask, byId, count, newId, toast} from "./dom.js";
import {Filters} from "./filters.js";
import {Grid} from "./grid.js";
import {Items} from "./items.js";
import {listen} from "./keys.js";
import {MapPanel} from "./map-panel.js";
import {Outbox, unsavedWords} from "./outbox.js";

const POLL_MS = 2000, MAX_UNDO = 500;

const page = {
  session: null, reviewer: "", attribute: "", view: "single", cursor: 0, anchor: null, items: null, version: 0,
  done: [], undone: [], last: null, face: null,
  attributeOf: (item) => item.attribute ?? page.attribute,
  picture: (row, size) => `${page.session.picture}/${row}/${size}`,
  isSelected: (index) => page.anchor === null ? index === page.cursor : index >= Math.min(page.anchor, page.cursor) && index <= Math.max(page.anchor, page.cursor),
  query: () => ({...filters.parameters(), attribute: page.attribute, reviewer: page.reviewer}),
};
let filters, grid, map, outbox;

const current = () => page.items.all[page.cursor];
const attributeInHand = () => current() ? page.attributeOf(current()) : page.attribute;
const stored = (name) => `ssl-review:${page.session.run}:${page.session.picture}:${page.session.queue.name}:${name}`;

/* ---- decisions ---- */

function targets() {
  if (page.view === "grid" && page.anchor !== null) return page.items.all.filter((_, index) => page.isSelected(index));
  return current() ? [current()] : [];
}

function decide(decision, value = null) {
  const answers = [];
  for (const item of targets()) {
    const attribute = page.attributeOf(item), label = item.labels[attribute];
    const chosen = decision === "accept" ? label.guess : value;
    if (decision === "accept" && label.hidden) { toast("The guess is hidden: choose a value"); return; }
    if (decision === "accept" && chosen === null) { toast("There is no guess: choose a value"); return; }
    if (decision === "label" && !page.session.attributes[attribute].includes(chosen)) { toast(`${chosen} is no value of ${attribute}`); return; }
    answers.push({row: item.row, attribute, decision: decision === "accept" ? "label" : decision, value: chosen});
  }
  if (!answers.length) return;
  page.last = {decision, value, attribute: answers[0].attribute};
  send(answers);
  remember({answers, cursor: page.cursor});
  const words = {accept: "accepted", reject: "rejected", unsure: "set aside", label: value}[decision];
  toast(answers.length > 1 ? `${count(answers.length)} faces: ${words}` : words);
  next();
}

/** Show answers at once, and send them. */
function send(answers) {
  outbox.add(answers.map((answer) => {
    const item = page.items.byRow.get(answer.row)?.[0], label = item?.labels[answer.attribute];
    if (label) {
      const isUndo = answer.decision === "undo";
      const mine = isUndo ? null : {decision: answer.decision, value: answer.value};
      page.items.set(answer.row, answer.attribute, {...label, mine, state: isUndo ? "open" : label.state});
    }
    return {...answer, id: newId(), reviewer: page.reviewer, time: new Date().toISOString(), queue: page.session.queue.name, num_votes_seen: label?.num_votes ?? 0};
  }));
}

function remember(action) {
  page.done = [...page.done, action].slice(-MAX_UNDO);
  page.undone = [];
  keepActions();
}

const keepActions = () => sessionStorage.setItem(stored("actions"), JSON.stringify({done: page.done, undone: page.undone, reviewer: page.reviewer}));

function undo() {
  const action = page.done.pop();
  if (!action) { toast("Nothing to undo"); return; }
  page.undone.push(action);
  send(action.answers.map((answer) => ({...answer, decision: "undo", value: null})));
  keepActions();
  goTo(action);
  toast("undone");
}

function redo() {
  const action = page.undone.pop();
  if (!action) { toast("Nothing to redo"); return; }
  page.done.push(action);
  send(action.answers);
  keepActions();
  goTo(action);
  toast("done again");
}

function goTo(action) {
  const index = page.items.all.findIndex((item) => item.row === action.answers[0].row && page.attributeOf(item) === action.answers[0].attribute);
  move(index >= 0 ? index : page.cursor);
}

function repeat() {
  if (!page.last) { toast("Nothing to repeat"); return; }
  if (page.last.decision === "label" && page.last.attribute !== attributeInHand()) { toast(`The last value was one of ${page.last.attribute}`); return; }
  decide(page.last.decision, page.last.value);
}

/* ---- moving ---- */

async function next() {
  const from = page.anchor === null ? page.cursor : Math.max(page.anchor, page.cursor);
  page.anchor = null;
  draw();
  try {
    const index = await page.items.nextUndecided(from, page.attributeOf);
    if (index >= 0) { move(index); return; }
    toast("All faces of this list are answered");
    draw();
  } catch (error) { toast(error.message, {isError: true}); }
}

function move(index, {isSelecting = false} = {}) {
  const last = page.items.all.length - 1;
  if (last < 0) return;
  if (isSelecting) page.anchor ??= page.cursor;
  else page.anchor = null;
  page.cursor = Math.max(0, Math.min(index, last));
  if (page.cursor > last - 20) page.items.more().then((more) => more !== null && draw(), () => {});
  if (page.view === "grid") grid.reveal(page.cursor);
  draw();
}

function step(columns, rows, isSelecting) {
  const isGrid = page.view === "grid";
  move(page.cursor + columns + rows * (isGrid ? grid.columns : 1), {isSelecting: isSelecting && isGrid});
}

async function openRow(row) {
  let index = page.items.all.findIndex((item) => item.row === row);
  while (index < 0 && page.items.after !== null) {
    await page.items.more();
    index = page.items.all.findIndex((item) => item.row === row);
  }
  if (index < 0) { toast("This face is not in the list: the filters leave it out"); return; }
  setView("single");
  move(index);
}

function setView(view) {
  page.view = view;
  page.anchor = null;
  filters.set("view", view, {isQuiet: true});
  byId("single").hidden = view !== "single";
  byId("grid").hidden = view !== "grid";
  document.body.dataset.view = view;
  byId("to-grid").setAttribute("aria-pressed", String(view === "grid"));
  draw();
  if (view === "grid") grid.reveal(page.cursor);
  byId(view).focus({preventScroll: true});
}

async function setAttribute(name) {
  if (name === page.attribute || current()?.attribute) return;
  page.attribute = name;
  filters.set("attribute", name, {isQuiet: true});
  const depends = ["status", "reason", "lower", "upper", "progress"].some((key) => key in filters.chosen);
  if (depends || ["unsure", "sure"].includes(filters.sort)) await keepFace(() => restart());
  else draw();
  filters.refresh();
}

/** Change the list and stay at the face, if it is in the new one. */
async function keepFace(change) {
  const row = current()?.row;
  await change();
  const index = page.items.all.findIndex((item) => item.row === row);
  if (index >= 0) move(index);
}

/* ---- drawing ---- */

function draw() {
  const item = current(), attribute = attributeInHand();
  byId("empty").hidden = Boolean(item);
  byId("empty").textContent = item ? "" : "No face matches these filters.";
  byId("single").hidden = page.view !== "single" || !item;
  byId("grid").hidden = page.view !== "grid" || !item;
  drawActions(page, item, attribute, {onAttribute: (name) => { setAttribute(name); back(); }, onValue: (value) => { decide("label", value); back(); }});
  drawProgress(page);
  grid.draw();
  if (page.view === "single" && item) drawSingle(item, attribute);
}

function drawSingle(item, attribute) {
  const source = page.picture(item.row, "large");
  if (byId("face").getAttribute("src") !== source) byId("face").src = source;
  byId("face").alt = `Face ${item.id}`;
  byId("face-id").textContent = item.id;
  byId("place").textContent = `${count(page.cursor + 1)} of ${count(page.items.total)}`;
  byId("why").textContent = item.why;
  byId("why").hidden = !item.why;
  if (page.face?.row !== item.row) page.face = null;
  drawDetails(byId("panel"), {item, attribute, face: page.face, picture: page.picture});
  if (!page.face) fetchFace(item);
  for (const ahead of page.items.all.slice(page.cursor + 1, page.cursor + 4)) new Image().src = page.picture(ahead.row, "large");
}

let fetching = 0;

/** Fetch what is behind a face, once one stays at it: holding an arrow key asks nothing. */
function fetchFace(item) {
  clearTimeout(fetching);
  fetching = setTimeout(async () => {
    try {
      const face = await ask(`api/face/${item.row}`, {query: {reviewer: page.reviewer}});
      if (current() !== item) return;
      page.face = face;
      drawDetails(byId("panel"), {item, attribute: page.attributeOf(item), face, picture: page.picture});
    } catch { /* the server is gone, which the header says */ }
  }, 80);
}

const back = () => byId(page.view).focus({preventScroll: true});

/* ---- lists and news ---- */

async function restart() {
  page.anchor = null;
  page.cursor = 0;
  page.face = null;
  grid.clear();
  byId("grid").scrollTop = 0;
  try {
    page.version = (await page.items.restart()) ?? page.version;
  } catch (error) { toast(error.message, {isError: true}); }
  draw();
  await poll();
}

async function poll() {
  if (document.hidden) return;
  try {
    const news = await ask("api/changes", {query: {since: page.version, attribute: page.attribute, reviewer: page.reviewer}});
    page.version = news.version;
    page.progress = news;
    apply(news.labels);
  } catch { /* tried again soon; the outbox tells if answers wait */ }
}

/** Take over labels from the server, but for those that this page has changed since. */
function apply(labels) {
  for (const {row, attribute, label} of labels) {
    if (outbox.has(row, attribute)) continue;
    page.items.set(row, attribute, label);
    if (page.face?.row === row) page.face = null;
  }
  draw();
}

function askName() {
  byId("name-input").value = page.reviewer;
  byId("ask-name").showModal();
  return new Promise((resolve) => byId("ask-name").addEventListener("close", () => resolve(byId("name-input").value.trim()), {once: true}));
}

async function setName() {
  const name = (await askName()).slice(0, 100) || page.reviewer || "anonymous";
  localStorage.setItem("ssl-review:reviewer", name);
  page.reviewer = name;
  byId("name").textContent = name;
}

const commands = {
  accept: () => decide("accept"), reject: () => decide("reject"), unsure: () => decide("unsure"),
  value: (index) => { const value = page.session.attributes[attributeInHand()][index]; if (value !== undefined) decide("label", value); },
  undo, redo, repeat, move: step, next: () => step(1, 0), back: () => step(-1, 0), nextUndecided: next,
  nextAttribute: () => { const names = Object.keys(page.session.attributes); setAttribute(names[(names.indexOf(page.attribute) + 1) % names.length]); },
  grid: () => setView(page.view === "grid" ? "single" : "grid"),
  filters: () => toggleFilters(),
  search: () => { toggleFilters(true); byId("search").focus(); },
  map: () => map.toggle().catch((error) => toast(error.message, {isError: true})),
  keys: () => byId("keys").showModal(),
  escape: () => { page.anchor = null; toggleFilters(false); back(); draw(); },
};

function toggleFilters(isOpen = byId("filters").hidden) {
  byId("filters").hidden = !isOpen;
  byId("to-filters").setAttribute("aria-expanded", String(isOpen));
  if (isOpen) filters.refresh().catch((error) => toast(error.message, {isError: true}));
}

function wire() {
  for (const [id, name] of [["to-grid", "grid"], ["to-filters", "filters"], ["to-map", "map"], ["to-keys", "keys"]]) byId(id).addEventListener("click", () => commands[name]());
  byId("to-name").addEventListener("click", async () => { await setName(); page.done = []; page.undone = []; keepActions(); await restart(); });
  byId("decisions").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) { commands[button.dataset.do](); back(); }
  });
  listen(commands, {hasAttributes: Object.keys(page.session.attributes).length > 1});
}

async function begin() {
  history.replaceState(null, "", location.pathname + location.hash);  // the token leaves the address
  page.session = await ask("api/session");
  const {session} = page;
  document.title = `Review of ${session.run}`;
  byId("run").textContent = session.run;
  byId("queue").textContent = session.queue.title + (session.num_unreadable ? ` (${count(session.num_unreadable)} unreadable ones are not shown)` : "");
  page.items = new Items(() => page.query(), session.queue.is_audit);
  filters = new Filters(page, () => restart());
  const names = Object.keys(session.attributes);
  page.attribute = names.includes(filters.chosen.attribute) ? filters.chosen.attribute : session.attribute;
  grid = new Grid(page, {
    onOpen: (index) => { setView("single"); move(index); },
    onPick: (index, isSelecting) => move(index, {isSelecting}),
  });
  map = new MapPanel(page, {
    onOpen: (row) => openRow(row).catch((error) => toast(error.message, {isError: true})),
    onSelect: (selection, number) => { if (number) filters.chosen.lassoed = number; filters.set("selection", selection); if (selection && page.view !== "grid") setView("grid"); },
  });
  byId("to-map").hidden = session.queue.is_audit;
  wire();
  page.reviewer = session.reviewer || localStorage.getItem("ssl-review:reviewer") || "";
  byId("name").textContent = page.reviewer || "Name";
  if (!page.reviewer) await setName();
  outbox = new Outbox(stored("unsaved"), {
    onSaved: (labels) => { apply(labels); },
    onChange: (number, isLost) => {
      byId("unsaved").hidden = !number;
      byId("unsaved").textContent = unsavedWords(number, isLost);
      byId("unsaved").classList.toggle("lost", isLost);
    },
  });
  const actions = JSON.parse(sessionStorage.getItem(stored("actions")) ?? "null");
  if (actions?.reviewer === page.reviewer) Object.assign(page, {done: actions.done, undone: actions.undone});
  await restart();
  setView(filters.chosen.view ?? (session.is_chosen ? "single" : "grid"));
  if (current() && !page.items.isUndecided(current(), attributeInHand())) await next();
  setInterval(poll, POLL_MS);
}

begin().catch((error) => {
  byId("empty").hidden = false;
  byId("empty").textContent = error.message;
});
