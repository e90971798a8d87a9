"use strict";
/* The map of points on a canvas: color and shape by group, hover, click, lasso; the legend's buttons select by keyboard.

drawMap(canvas, points, options) returns {colorBy(name), select(indices or null), selected()}.

points: {x: [N], y: [N], both in [0, 1]; marked: [N] of 0 or 1, drawn larger (optional);
         groups: {name: {values: [names of groups], codes: [N], -1 for none}}}
options:
  colorBy   name of the grouping to begin with
  legend    element that is filled with a button per group: it selects the group (the keyboard's lasso)
  tip       function(index) that returns an element to show beside a point, e.g. a picture of the face
  onOpen    function(index), called when a point is clicked
  onSelect  function(indices or null), called when the selection changes; null: nothing is selected

Colors are the CSS variables --group-0 … --group-7, --none, --ink and --paper of the canvas. */
function drawMap(canvas, points, options) {
  const SHAPES = 6, COLORS = 8, REACH = 12, MARGIN = 14;
  const context = canvas.getContext("2d"), total = points.x.length;
  const tip = document.createElement("div");
  tip.className = "map-tip";
  tip.hidden = true;
  canvas.after(tip);
  let name = options.colorBy || Object.keys(points.groups)[0];
  let chosen = null, lasso = [], isDragging = false, scale = 1, colors = {};

  const isMarked = (i) => Boolean(points.marked && points.marked[i]);
  const left = (i) => MARGIN + points.x[i] * (canvas.clientWidth - 2 * MARGIN);
  const top = (i) => MARGIN + (1 - points.y[i]) * (canvas.clientHeight - 2 * MARGIN);

  /* Shape and color change together, and with another step after the colors are used up. */
  function look(code) {
    if (code < 0) return {color: colors.none, shape: 0};
    return {color: colors[code % COLORS], shape: (code + Math.floor(code / COLORS)) % SHAPES};
  }

  function trace(to, shape, x, y, r) {
    if (shape === 0) { to.moveTo(x + r, y); to.arc(x, y, r, 0, 7); return; }
    if (shape === 4 || shape === 5) {                       // plus and cross, as thin as a line can be filled
      const t = r / 2.6, turn = shape === 5 ? Math.PI / 4 : 0, c = Math.cos(turn), s = Math.sin(turn), l = r * 1.25;
      [[-l, -t], [-t, -t], [-t, -l], [t, -l], [t, -t], [l, -t], [l, t], [t, t], [t, l], [-t, l], [-t, t], [-l, t]]
        .forEach(([a, b], n) => to[n ? "lineTo" : "moveTo"](x + a * c - b * s, y + a * s + b * c));
    } else {
      const corners = {1: [[-1, -1], [1, -1], [1, 1], [-1, 1]], 2: [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]],
        3: [[0, -1.4], [1.4, 0], [0, 1.4], [-1.4, 0]]}[shape];
      corners.forEach(([a, b], n) => to[n ? "lineTo" : "moveTo"](x + a * r * 0.9, y + b * r * 0.9));
    }
    to.closePath();
  }

  function draw() {
    const style = getComputedStyle(canvas), read = (variable) => style.getPropertyValue(variable).trim();
    colors = {none: read("--none"), ink: read("--ink"), paper: read("--paper")};
    for (let n = 0; n < COLORS; n += 1) colors[n] = read(`--group-${n}`);
    scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    const codes = points.groups[name].codes, radius = total > 5000 ? 1.8 : total > 1500 ? 2.4 : 3.2;
    const kept = chosen === null ? null : new Set(chosen);
    for (const marked of [false, true]) {                   // the marked ones above the others
      for (let i = 0; i < total; i += 1) {
        if (isMarked(i) !== marked) continue;
        const {color, shape} = look(codes[i]);
        context.globalAlpha = kept === null || kept.has(i) ? (marked ? 1 : 0.72) : 0.1;
        context.beginPath();
        trace(context, shape, left(i), top(i), marked ? radius * 1.9 : radius);
        context.fillStyle = color;
        context.fill();
        if (marked) { context.strokeStyle = colors.paper; context.lineWidth = 1; context.stroke(); }
      }
    }
    context.globalAlpha = 1;
    if (lasso.length > 1) {
      context.beginPath();
      lasso.forEach(([x, y], n) => context[n ? "lineTo" : "moveTo"](x, y));
      context.closePath();
      context.strokeStyle = colors.ink;
      context.setLineDash([5, 4]);
      context.lineWidth = 1.5;
      context.stroke();
      context.setLineDash([]);
    }
  }

  function nearest(x, y) {
    let best = -1, least = REACH * REACH;
    for (let i = 0; i < total; i += 1) {
      const distance = (left(i) - x) ** 2 + (top(i) - y) ** 2;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  }

  function isInside(x, y) {                                 // even-odd rule
    let inside = false;
    for (let i = 0, j = lasso.length - 1; i < lasso.length; j = i, i += 1) {
      const [xi, yi] = lasso[i], [xj, yj] = lasso[j];
      if ((yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
    return inside;
  }

  function select(indices, isTold = true) {
    chosen = indices;
    draw();
    if (options.legend) for (const button of options.legend.querySelectorAll("button")) button.setAttribute("aria-pressed", "false");
    if (isTold && options.onSelect) options.onSelect(chosen);
  }

  function showTip(i, x, y) {
    tip.hidden = i < 0 || !options.tip;
    canvas.style.cursor = i < 0 ? "crosshair" : "pointer";
    if (tip.hidden) return;
    tip.replaceChildren(options.tip(i));
    tip.style.left = `${Math.max(0, Math.min(x + 14, canvas.clientWidth - 150)) + canvas.offsetLeft}px`;
    tip.style.top = `${y + 14 + canvas.offsetTop}px`;
  }

  function legend() {
    if (!options.legend) return;
    const {values, codes} = points.groups[name];
    options.legend.replaceChildren(...values.map((value, code) => {
      const indices = [];
      for (let i = 0; i < total; i += 1) if (codes[i] === code) indices.push(i);
      const button = document.createElement("button"), mark = document.createElement("canvas");
      const count = document.createElement("span"), own = look(code), pen = mark.getContext("2d");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      mark.width = mark.height = Math.round(14 * scale);
      mark.setAttribute("aria-hidden", "true");
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.beginPath();
      trace(pen, own.shape, 7, 7, 4.6);
      pen.fillStyle = own.color;
      pen.fill();
      count.className = "count";
      count.textContent = indices.length.toLocaleString("en");
      button.append(mark, document.createTextNode(value), count);
      button.addEventListener("click", () => {
        const isPressed = button.getAttribute("aria-pressed") === "true";
        select(isPressed ? null : indices);
        button.setAttribute("aria-pressed", String(!isPressed));
      });
      return button;
    }));
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    isDragging = true;
    lasso = [[event.offsetX, event.offsetY]];
    canvas.setPointerCapture(event.pointerId);
    showTip(-1);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!isDragging) { showTip(nearest(event.offsetX, event.offsetY), event.offsetX, event.offsetY); return; }
    lasso.push([event.offsetX, event.offsetY]);
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!isDragging) return;
    isDragging = false;
    const [x, y] = lasso[0], isClick = lasso.every(([a, b]) => Math.hypot(a - x, b - y) < 5);
    if (isClick) {
      lasso = [];
      const i = nearest(event.offsetX, event.offsetY);
      if (i >= 0 && options.onOpen) options.onOpen(i);
      else select(null);
      return;
    }
    const indices = [];
    for (let i = 0; i < total; i += 1) if (isInside(left(i), top(i))) indices.push(i);
    lasso = [];
    select(indices.length ? indices : null);
  });
  for (const kind of ["pointercancel", "pointerleave"]) {
    canvas.addEventListener(kind, () => { showTip(-1); if (kind === "pointercancel") { isDragging = false; lasso = []; draw(); } });
  }
  const redraw = () => { draw(); legend(); };
  new ResizeObserver(draw).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  redraw();
  return {
    colorBy(grouping) { name = grouping; chosen = null; redraw(); if (options.onSelect) options.onSelect(null); },
    select(indices) { select(indices, false); },
    selected: () => chosen,
  };
}
