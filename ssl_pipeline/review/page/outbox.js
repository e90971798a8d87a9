/* Answers on their way: sent at once, kept in the browser until the server has confirmed them, sent again with their id. */

import {ask, count, newId, toast} from "./dom.js";

const RETRY_MS = 2000, BATCH = 200;

export class Outbox {
  /** `place`: a key of localStorage, of this run, these faces and this queue; `onSaved(labels)`, `onChange(number)`. */
  constructor(place, {onSaved, onChange}) {
    this.prefix = `${place}:`;
    this.key = this.prefix + tabId();
    this.onSaved = onSaved;
    this.onChange = onChange;
    this.waiting = this.adopt();
    this.isSending = false;
    this.isLost = false;
    if (this.waiting.length) this.send();
    this.onChange(this.waiting.length, this.isLost);
  }

  /** Take over what this tab, or one that was closed, could not send. An answer that two tabs send counts once. */
  adopt() {
    const found = new Map();
    for (const key of Object.keys(localStorage).filter((name) => name.startsWith(this.prefix))) {
      try { for (const answer of JSON.parse(localStorage.getItem(key))) found.set(answer.id, answer); } catch { /* not ours */ }
      if (key !== this.key) localStorage.removeItem(key);
    }
    const answers = [...found.values()];
    this.keep(answers);
    return answers;
  }

  keep(answers) {
    if (answers.length) localStorage.setItem(this.key, JSON.stringify(answers));
    else localStorage.removeItem(this.key);
  }

  has(row, attribute) {
    return this.waiting.some((answer) => answer.row === row && answer.attribute === attribute);
  }

  add(answers) {
    this.waiting.push(...answers);
    this.keep(this.waiting);
    this.onChange(this.waiting.length, this.isLost);
    this.send();
  }

  async send() {
    if (this.isSending || !this.waiting.length) return;
    this.isSending = true;
    const batch = this.waiting.slice(0, BATCH);
    try {
      const reply = await ask("api/answers", {body: batch});
      this.remove(new Set(reply.saved));
      this.isLost = false;
      this.onSaved(reply.labels);
    } catch (error) {
      if (error.status === 400 && batch.length > 1) await this.sendSingly(batch);
      else if (error.status === 400) this.refuse(batch[0], error);
      else this.isLost = true;
    }
    this.isSending = false;
    this.onChange(this.waiting.length, this.isLost);
    if (this.waiting.length) setTimeout(() => this.send(), this.isLost ? RETRY_MS : 0);
  }

  async sendSingly(batch) {
    for (const answer of batch) {
      try {
        const reply = await ask("api/answers", {body: [answer]});
        this.remove(new Set(reply.saved));
        this.onSaved(reply.labels);
      } catch (error) {
        if (error.status !== 400) { this.isLost = true; return; }
        this.refuse(answer, error);
      }
    }
  }

  refuse(answer, error) {
    this.remove(new Set([answer.id]));
    toast(`The server refused an answer: ${error.message}`, {isError: true});
  }

  remove(ids) {
    this.waiting = this.waiting.filter((answer) => !ids.has(answer.id));
    this.keep(this.waiting);
  }
}

/** In words; empty if all is saved. */
export function unsavedWords(number, isLost) {
  if (!number) return "";
  return isLost ? `${count(number)} unsaved, kept here: no answer from the server` : `${count(number)} unsaved`;
}

function tabId() {
  const id = sessionStorage.getItem("ssl-review-tab") || newId();
  sessionStorage.setItem("ssl-review-tab", id);
  return id;
}
