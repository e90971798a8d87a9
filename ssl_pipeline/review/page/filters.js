/* The filter panel, the chips of filters in use, and the list's query in the page's address. */

import {ask, byId, count, element} from "./dom.js";

const SORTS = {queue: "in the queue's order", unsure: "least sure first", sure: "surest first", image_id: "by image id"};
const PROGRESS = {undecided: "not answered", answered: "answered", mine: "answered by me", disputed: "reviewers differ", unsure: "set aside"};
const TITLES = {status: "Label", reason: "Reason", source: "Source", origin: "Group", progress: "Answers"};

export class Filters {
  /** `page`: with session and query(); `onChange()` is called after a change. */
  constructor(page, onChange) {
    this.page = page;
    this.onChange = onChange;
    this.chosen = readAddress(page.session.is_audit ? ["progress", "search"] : null);
    this.panel = byId("filters");
    this.build();
  }

  get sort() { return this.chosen.sort ?? (this.page.session.is_chosen ? "queue" : "unsure"); }

  /** The parameters of the list's query, without attribute and reviewer. */
  parameters() {
    const {sort, view, attribute, lassoed, ...filters} = this.chosen;
    return {...filters, sort: this.sort};
  }

  set(key, value, {isQuiet = false} = {}) {
    if (value === "" || value === null) delete this.chosen[key];
    else this.chosen[key] = value;
    this.write();
    if (!isQuiet) { this.drawChips(); this.onChange(); }
  }

  write() {
    const text = new URLSearchParams(this.chosen).toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname);
  }

  build() {
    const {session} = this.page;
    const search = element("input", {id: "search", type: "search", value: this.chosen.search ?? "", placeholder: "part of an image id", onchange: (event) => this.set("search", event.target.value.trim()), onkeydown: (event) => event.key === "Enter" && event.target.blur()});
    const rows = [element("label", {}, "Search", element("kbd", {}, "/"), search)];
    const selects = session.is_audit ? ["progress"] : ["progress", "status", ...Object.keys(session.attributes).map((name) => `value.${name}`), "reason", "source", "origin"];
    if (!session.is_audit) {
      const sort = element("select", {onchange: (event) => this.set("sort", event.target.value)},
        ...Object.entries(SORTS).filter(([key]) => key !== "queue" || session.is_chosen).map(([key, words]) => element("option", {value: key, selected: key === this.sort}, words)));
      rows.push(element("label", {}, "Order", sort));
    }
    this.selects = selects.map((key) => element("select", {"data-key": key, onchange: (event) => this.set(key, event.target.value)}));
    rows.push(...this.selects.map((select) => element("label", {}, title(select.dataset.key), select)));
    if (!session.is_audit) rows.push(this.range());
    rows.push(element("button", {type: "button", onclick: () => this.reset()}, "Clear all filters"));
    if (session.queues.length) rows.push(element("p", {class: "from"}, `Other queues: ssl-pipeline review … --queue ${session.queues.join(", or --queue ")}`));
    this.panel.replaceChildren(...rows);
    this.drawChips();
  }

  range() {
    const field = (key, words, standard) => element("label", {}, words, element("input", {type: "number", min: 0, max: 1, step: 0.01, value: this.chosen[key] ?? standard, "data-key": key,
      onchange: (event) => this.set(key, Number(event.target.value) === standard ? "" : event.target.value)}));
    return element("fieldset", {}, element("legend", {}, "Confidence"), field("lower", "from", 0), field("upper", "to", 1));
  }

  reset() {
    const {view, attribute, sort} = this.chosen;
    this.chosen = Object.fromEntries(Object.entries({view, attribute, sort}).filter(([, value]) => value !== undefined));
    this.write();
    this.build();
    this.refresh();
    this.onChange();
  }

  /** Fetch the number of items per option and fill the selects. */
  async refresh() {
    if (this.panel.hidden) return;
    const counts = await ask("api/counts", {query: this.page.query()});
    for (const select of this.selects) {
      const key = select.dataset.key, chosen = this.chosen[key] ?? "", options = {...counts[key]};
      if (chosen && !(chosen in options)) options[chosen] = 0;
      select.replaceChildren(element("option", {value: ""}, "all"), ...Object.entries(options).map(([value, number]) =>
        element("option", {value, selected: value === chosen}, `${key === "progress" ? PROGRESS[value] : value} (${count(number)})`)));
    }
  }

  drawChips() {
    const filters = Object.entries(this.chosen).filter(([key]) => !["sort", "view", "attribute", "lassoed"].includes(key));
    byId("chips").hidden = !filters.length;
    byId("chips").replaceChildren(...filters.map(([key, value]) => element("button", {type: "button", onclick: () => { this.set(key, ""); this.build(); this.refresh(); }},
      element("bdi", {}, chip(key, value, this.chosen)), element("span", {"aria-hidden": "true"}, " ×"), element("span", {class: "spoken"}, " (remove)"))));
  }
}

function title(key) { return TITLES[key] ?? key.slice("value.".length); }

function chip(key, value, chosen) {
  if (key === "selection") return `lasso: ${count(Number(chosen.lassoed))} faces`;
  if (key === "lower") return `confidence ≥ ${value}`;
  if (key === "upper") return `confidence ≤ ${value}`;
  if (key === "progress") return PROGRESS[value] ?? value;
  return `${(TITLES[key] ?? (key === "search" ? "image id" : title(key))).toLowerCase()}: ${value}`;
}

function readAddress(allowed) {
  const found = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  delete found.selection;                                    // the server may have forgotten it
  delete found.lassoed;
  return allowed === null ? found : Object.fromEntries(Object.entries(found).filter(([key]) => allowed.includes(key) || key === "view"));
}
