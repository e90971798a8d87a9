/* The map of faces beside the list: drawn by the report's map.js; a lasso filters the list. */

import {ask, byId, count, element, toast} from "./dom.js";

const WAIT_MS = 1500;

export class MapPanel {
  constructor(page, {onSelect, onOpen}) {
    Object.assign(this, {page, onSelect, onOpen, map: null, points: null});
    byId("map-start").addEventListener("click", () => this.load({isAsked: true}));
    byId("map-color").addEventListener("change", (event) => this.map?.colorBy(event.target.value));
  }

  async toggle() {
    const panel = byId("map");
    panel.hidden = !panel.hidden;
    byId("to-map").setAttribute("aria-expanded", String(!panel.hidden));
    if (!panel.hidden && !this.map) await this.load({isAsked: false});
  }

  async load({isAsked}) {
    let reply = isAsked ? await ask("api/map", {body: {}}) : await ask("api/map");
    byId("map-start").hidden = reply.state !== "idle" && reply.state !== "failed";
    const parts = reply.num_faces < reply.num_all ? `${count(reply.num_faces)} of ${count(reply.num_all)} faces, evenly drawn` : `${count(reply.num_faces)} faces`;
    const notes = {
      idle: `${parts}. Their features are computed once and kept.`, computing: `Computing features of ${parts} …`,
      failed: reply.error, hidden: "An audit has no map: it would tell the guesses.",
    };
    byId("map-note").textContent = reply.points === undefined && !reply.rows ? notes[reply.state] ?? "" : parts;
    if (reply.rows) this.draw(reply);
    else if (reply.state === "computing" || (isAsked && reply.state === "ready")) setTimeout(() => this.load({isAsked: false}), WAIT_MS);
  }

  draw(points) {
    this.points = points;
    const names = Object.keys(points.groups), color = byId("map-color");
    const first = names.includes(this.page.attribute) ? this.page.attribute : names[0];
    color.replaceChildren(...names.map((name) => element("option", {value: name, selected: name === first}, name)));
    this.map = window.drawMap(byId("map-canvas"), points, {
      colorBy: first,
      legend: byId("map-legend"),
      tip: (index) => element("img", {src: this.page.picture(points.rows[index], "small"), alt: ""}),
      onOpen: (index) => this.onOpen(points.rows[index]),
      onSelect: (indices) => this.select(indices),
    });
  }

  async select(indices) {
    if (indices === null) { this.onSelect("", 0); return; }
    try {
      const reply = await ask("api/selection", {body: indices.map((index) => this.points.rows[index])});
      this.onSelect(reply.selection, reply.num_faces);
    } catch (error) { toast(error.message, {isError: true}); }
  }

  forget() { this.map?.select(null); }
}
