/* The items of a list, loaded page by page, and the state of their labels. */

import {ask} from "./dom.js";

export class Items {
  /** `query()` returns the parameters of the list. */
  constructor(query, isAudit) {
    this.query = query;
    this.isAudit = isAudit;
    this.clear();
  }

  clear() {
    this.all = [];
    this.total = 0;
    this.after = -1;
    this.loading = null;
    this.byRow = new Map();
  }

  /** Load the first page of a new list; resolves to the server's version. */
  async restart() {
    this.clear();
    return this.more();
  }

  /** Load the next page; nothing if there is none. Two calls at once load one page. */
  more() {
    if (this.after === null) return Promise.resolve(null);
    const list = this.all;
    this.loading ??= ask("api/faces", {query: {...this.query(), after: this.after}}).then((page) => {
      if (list !== this.all) return null;                   // another list by now
      for (const item of page.items) {
        this.all.push(item);
        if (!this.byRow.has(item.row)) this.byRow.set(item.row, []);
        this.byRow.get(item.row).push(item);
      }
      this.total = page.total;
      this.after = page.after;
      return page.version;
    }).finally(() => { if (list === this.all) this.loading = null; });
    return this.loading;
  }

  set(row, attribute, label) {
    for (const item of this.byRow.get(row) ?? []) item.labels[attribute] = label;
  }

  isUndecided(item, attribute) {
    const label = item.labels[attribute];
    return this.isAudit ? label.mine === null : label.state === "open" && label.mine === null;
  }

  /** The index of the next undecided item after `from`, loading pages on the way, then from the start; -1 without one. */
  async nextUndecided(from, attributeOf) {
    const isOpen = (item) => this.isUndecided(item, attributeOf(item));
    for (let index = from + 1; ; index += 1) {
      while (index >= this.all.length && this.after !== null) await this.more();
      if (index >= this.all.length) break;
      if (isOpen(this.all[index])) return index;
    }
    return this.all.findIndex(isOpen);
  }
}

/** What the page shows of a label: words, a mark beside the color, and a class. */
export function look(label) {
  if (label.state === "disputed") return {mark: "≠", kind: "disputed", words: "reviewers differ"};
  const decision = label.mine ? label.mine.decision : label.state;
  const value = label.mine ? label.mine.value : label.value;
  if (decision === "label" || decision === "labeled") {
    const isSame = value === label.guess;
    return {mark: isSame ? "✓" : "✎", kind: isSame ? "accepted" : "corrected", words: isSame ? `accepted: ${value}` : `corrected: ${value}`};
  }
  if (decision === "reject" || decision === "rejected") return {mark: "✕", kind: "rejected", words: "rejected"};
  if (decision === "unsure") return {mark: "?", kind: "unsure", words: "unsure"};
  return {mark: "", kind: "open", words: "not answered"};
}
