/* The grid: a virtual list of tiles. Only those in sight are in the document, however many are loaded. */

import {byId, confidence, element} from "./dom.js";
import {look} from "./items.js";

const GAP = 8, WIDEST = 132, CAPTION = 26, ROWS_AHEAD = 3;

export class Grid {
  /** `page`: the page's state with items, cursor, selected(index), attributeOf(item), picture(row, size). */
  constructor(page, {onOpen, onPick}) {
    this.page = page;
    this.frame = byId("grid");
    this.tiles = byId("tiles");
    this.shown = new Map();
    this.columns = 1;
    this.frame.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => { this.clear(); this.draw(); }).observe(this.frame);
    this.tiles.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) onPick(Number(tile.dataset.index), event.shiftKey);
    });
    this.tiles.addEventListener("dblclick", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) onOpen(Number(tile.dataset.index));
    });
  }

  clear() {
    this.shown.clear();
    this.tiles.replaceChildren();
  }

  /** Width and height of a tile with its gap, and the number of columns. */
  measure() {
    const width = this.frame.clientWidth - GAP;
    this.columns = Math.max(3, Math.floor(width / (WIDEST + GAP)));
    const side = Math.floor(width / this.columns);
    return {side, height: side + CAPTION};
  }

  draw() {
    if (this.frame.hidden || !this.frame.clientWidth) return;
    const {items} = this.page, {side, height} = this.measure();
    const rows = Math.ceil(items.all.length / this.columns);
    this.tiles.style.height = `${rows * height + GAP}px`;
    const first = Math.max(0, Math.floor(this.frame.scrollTop / height) - 1) * this.columns;
    const last = Math.min(items.all.length, (Math.ceil((this.frame.scrollTop + this.frame.clientHeight) / height) + 1) * this.columns);
    for (const [index, tile] of this.shown) if (index < first || index >= last) { tile.remove(); this.shown.delete(index); }
    for (let index = first; index < last; index += 1) {
      let tile = this.shown.get(index);
      if (!tile) {
        tile = this.build(index, side);
        this.shown.set(index, tile);
        this.tiles.append(tile);
      }
      tile.style.transform = `translate(${GAP + (index % this.columns) * side}px, ${GAP + Math.floor(index / this.columns) * height}px)`;
      this.refresh(index, tile);
    }
    this.frame.setAttribute("aria-activedescendant", this.shown.has(this.page.cursor) ? `tile-${this.page.cursor}` : "");
    if (last + ROWS_AHEAD * this.columns >= items.all.length && items.after !== null && !items.loading) {
      items.more().then(() => this.draw(), () => {});
    }
  }

  build(index, side) {
    const item = this.page.items.all[index];
    const picture = element("img", {src: this.page.picture(item.row, "small"), alt: "", loading: "lazy", decoding: "async", draggable: "false"});
    const tile = element("div", {class: "tile", role: "option", id: `tile-${index}`, "data-index": index},
      picture, element("span", {class: "mark", "aria-hidden": "true"}), element("bdi", {class: "guess"}), element("span", {class: "bar"}, element("i")));
    tile.style.width = `${side - GAP}px`;
    return tile;
  }

  refresh(index, tile) {
    const item = this.page.items.all[index], attribute = this.page.attributeOf(item), label = item.labels[attribute];
    const seen = look(label), answered = label.mine?.value ?? label.value;
    const [mark, guess, bar] = [tile.children[1], tile.children[2], tile.children[3].firstChild];
    tile.className = `tile ${seen.kind}`;
    tile.setAttribute("aria-selected", String(this.page.isSelected(index)));
    tile.classList.toggle("current", index === this.page.cursor);
    tile.setAttribute("aria-posinset", index + 1);
    tile.setAttribute("aria-setsize", this.page.items.total);
    const sureness = label.confidence === null ? "" : `, ${confidence(label.confidence)}`;
    tile.setAttribute("aria-label", `${item.id}, ${attribute}: ${label.hidden ? "hidden" : label.guess ?? "unknown"}${sureness}, ${seen.words}`);
    mark.textContent = seen.mark;
    guess.textContent = answered ?? (label.hidden ? "" : label.guess ?? "–");
    bar.style.width = label.confidence === null ? "0" : `${100 * label.confidence}%`;
  }

  reveal(index) {
    const {height} = this.measure(), top = Math.floor(index / this.columns) * height;
    if (top < this.frame.scrollTop) this.frame.scrollTop = top;
    else if (top + height + GAP > this.frame.scrollTop + this.frame.clientHeight) this.frame.scrollTop = top + height + GAP - this.frame.clientHeight;
    this.draw();
  }
}
