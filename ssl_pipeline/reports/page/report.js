"use strict";
/* Galleries, the dialog of a face and the map; every text goes through textContent. */
(function () {
  const data = JSON.parse(document.getElementById("data").textContent), {attributes, faces, galleries} = data;
  const PAGE = 48, byId = (id) => document.getElementById(id);
  let open = "surest", shown = PAGE, chosen = null, listed = [], current = 0, returnTo = null;

  function make(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") element.className = value;
      else if (name === "click") element.addEventListener("click", value);
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const percent = (share) => (share === null || share === undefined ? "–" : (100 * share).toFixed(1));
  const valueOf = (position, code) => (code < 0 ? "unknown" : attributes[position].values[code]);
  const isGuessed = (label) => label.status === "accepted" || label.status === "rejected";

  function guess(face) {
    if (!face.labels.length) return face.status;
    const guessed = face.labels.map((label, n) => [label, n]).filter(([label]) => face.kind === "labeled" || isGuessed(label));
    return (guessed.length ? guessed : face.labels.map((label, n) => [label, n])).map(([label, n]) => valueOf(n, label.value)).join(" · ");
  }

  function picture(face, text) {
    if (face.picture === null) return make("span", {class: "picture", role: "img", "aria-label": `no picture: ${text}`});
    return make("img", {class: "picture", src: `data:image/webp;base64,${face.picture}`, alt: text});
  }

  function meter(share, status = "accepted") {
    const fill = make("span");
    fill.style.width = `${100 * (share || 0)}%`;
    return make("span", {class: `meter ${status}`, "aria-hidden": "true"}, fill);
  }

  function truthWords(face) {
    const wrong = face.labels.map((label, n) => [label, n]).filter(([label]) => isGuessed(label) && label.truth >= 0 && label.truth !== label.value);
    return wrong.map(([label, n]) => `truly ${valueOf(n, label.truth)}`).join(", ");
  }

  function tile(index) {
    const face = faces[index], guessed = face.labels.filter(isGuessed), least = guessed.length ? Math.min(...guessed.map((label) => label.confidence)) : null;
    const status = guessed.some((label) => label.status === "accepted") ? "accepted" : "rejected", truth = truthWords(face);
    const why = face.kind === "labeled" ? face.reason || `labeled, ${face.status}` : guessed.map((label) => label.reason).join("; ") || face.reason;
    const words = make("span", {class: "words"}, make("span", {class: "guess"}, guess(face)), least === null ? null : meter(least, status),
      make("span", {class: "why"}, why), truth ? make("span", {class: "truth-wrong"}, `✗ ${truth}`) : null);
    return make("button", {type: "button", class: "tile", "data-face": index, click: (event) => openFace(index, event.currentTarget)}, picture(face, ""), words);
  }

  /* -- galleries --------------------------------------------------------------------------------------------- */

  const tabs = [...galleries, {key: "all", title: "All shown", lead: "Every face with a record in this page.", faces: faces.map((_, n) => n)}];

  function filtered(gallery) {
    return chosen === null ? gallery.faces : gallery.faces.filter((index) => chosen.has(index));
  }

  function drawTabs() {
    byId("tabs").replaceChildren(...tabs.map((gallery) => {
      const isOpen = gallery.key === open;
      const tab = make("button", {type: "button", role: "tab", id: `tab-${gallery.key}`, "aria-controls": "gallery", "aria-selected": String(isOpen), tabindex: isOpen ? "0" : "-1", click: () => show(gallery.key)}, gallery.title, make("span", {class: "count"}, String(filtered(gallery).length)));
      tab.addEventListener("keydown", (event) => {
        const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (!step) return;
        const next = tabs[(tabs.indexOf(gallery) + step + tabs.length) % tabs.length];
        show(next.key);
        byId(`tab-${next.key}`).focus();
        event.preventDefault();
      });
      return tab;
    }));
  }

  function drawGallery() {
    const gallery = tabs.find((own) => own.key === open);
    listed = filtered(gallery);
    byId("gallery").setAttribute("aria-labelledby", `tab-${open}`);
    byId("gallery").replaceChildren(make("p", {class: "tab-lead"}, listed.length ? gallery.lead : "No face here."), ...listed.slice(0, shown).map(tile));
    byId("more").hidden = listed.length <= shown;
  }

  function show(key) {
    open = key;
    shown = PAGE;
    drawTabs();
    drawGallery();
  }

  byId("more").addEventListener("click", () => { shown += 4 * PAGE; drawGallery(); });

  /* -- a face -------------------------------------------------------------------------------------------------- */

  const ACCENT = [214, 96, 20];

  function paintHeat(canvas, text) {
    const lines = text.split("/"), small = document.createElement("canvas"), pen = canvas.getContext("2d");
    small.width = lines[0].length;
    small.height = lines.length;
    const dots = small.getContext("2d"), image = dots.createImageData(small.width, small.height);
    const cells = lines.map((line) => [...line].map((digit) => parseInt(digit, 16))), least = Math.min(...cells.flat());
    cells.forEach((line, y) => line.forEach((cell, x) => image.data.set([...ACCENT, Math.round((cell - least) * 12)], 4 * (y * small.width + x))));
    dots.putImageData(image, 0, 0);
    canvas.width = canvas.height = 192;
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  function stage(face) {
    const box = make("div", {class: "stage"}, picture(face, `face, guessed ${guess(face)}`)), side = make("div", {}, box);
    const buttons = (face.heat || []).map((text, n) => [text, n]).filter(([text, n]) => /[1-9a-f]/.test(text) && face.labels[n] && isGuessed(face.labels[n]));
    if (face.picture === null || !buttons.length) return side;
    const canvas = make("canvas", {"aria-hidden": "true"}), bar = make("div", {class: "heat-bar", role: "group", "aria-label": "What the network looked at"});
    bar.append(...buttons.map(([text, n]) => make("button", {type: "button", class: "plain", "aria-pressed": "false", click: (event) => {
      const button = event.currentTarget, isOn = button.getAttribute("aria-pressed") === "true";
      for (const other of bar.children) other.setAttribute("aria-pressed", "false");
      canvas.remove();
      if (!isOn) { button.setAttribute("aria-pressed", "true"); paintHeat(canvas, text); box.append(canvas); }
    }}, `looked at for ${attributes[n].name}`)));
    side.append(bar);
    return side;
  }

  function probabilities(face) {
    return face.labels.flatMap((label, n) => {
      if (!label.probabilities) return [];
      if (!isGuessed(label)) return [make("p", {class: "quiet"}, `${attributes[n].name}: ${valueOf(n, label.value)}, known before`)];
      const title = make("h3", {}, `${attributes[n].name}: ${label.status}`), bars = make("div", {class: "bars"});
      if (label.truth >= 0) {
        const isRight = label.truth === label.value;
        title.append(" ", make("span", {class: isRight ? "truth-right" : "truth-wrong"}, isRight ? "✓ right, by the hidden label" : `✗ truly ${valueOf(n, label.truth)}`));
      }
      label.probabilities.forEach((share, code) => bars.append(make("b", {class: code === label.value ? "chosen" : ""}, valueOf(n, code)), meter(share), make("span", {class: "number"}, percent(share))));
      return [title, bars, make("p", {class: "quiet"}, label.reason)];
    });
  }

  function roundsTable(face) {
    if (!face.rounds || !face.rounds.length) return [];
    const guessed = attributes.map((_, n) => n).filter((n) => face.rounds.some((round) => round.labels[n][2] !== "known"));
    if (!guessed.length) return [];
    const head = make("tr", {}, make("th", {scope: "col"}, "round"), ...guessed.map((n) => make("th", {scope: "col"}, attributes[n].name)));
    const rows = face.rounds.map((round) => make("tr", {}, make("th", {scope: "row"}, `${round.round}, by ${round.round === 1 ? "the teacher" : `the student of round ${round.round - 1}`}`),
      ...guessed.map((n) => make("td", {}, `${valueOf(n, round.labels[n][0])}, ${percent(round.labels[n][1])} %, ${round.labels[n][2]}`))));
    return [make("h3", {}, "Guesses of every round"), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows))];
  }

  function nearestFaces(face) {
    if (!face.near || !face.near.length) return [];
    return [make("h3", {}, "Nearest labeled faces"), make("div", {class: "near"}, ...face.near.map(([index, distance]) => {
      const own = faces[index];
      return make("figure", {}, picture(own, `labeled ${guess(own)}`), make("figcaption", {}, guess(own), make("br"), make("span", {class: "quiet"}, `distance ${distance.toFixed(2)}`)));
    }))];
  }

  function pathLine(face) {
    const code = make("code", {class: "isolate"}, face.path), button = make("button", {type: "button", class: "plain"}, "Copy path");
    button.addEventListener("click", () => {
      const select = () => { const range = document.createRange(); range.selectNodeContents(code); const selection = window.getSelection(); selection.removeAllRanges(); selection.addRange(range); button.textContent = "Selected: copy it"; };
      if (navigator.clipboard) navigator.clipboard.writeText(face.path).then(() => { button.textContent = "Copied"; }, select);
      else select();
    });
    return make("div", {class: "path"}, code, button);
  }

  function openFace(index, from) {
    const face = faces[index], dialog = byId("face");
    returnTo = from || returnTo;
    current = listed.indexOf(index);
    const title = make("h2", {id: "face-title"}, face.kind === "labeled" ? `Labeled by people: ${guess(face)}` : `${face.status}: ${guess(face)}`);
    const words = face.kind === "labeled" ? face.reason || `a ${face.status} face` : "";
    const moves = current < 0 ? null : make("div", {class: "moves"}, make("button", {type: "button", class: "plain", click: () => step(-1)}, "← Previous"), make("button", {type: "button", class: "plain", click: () => step(1)}, "Next →"));
    const details = make("div", {}, title, make("p", {class: "quiet"}, make("span", {class: "isolate"}, face.id), ` · ${face.source}`), words ? make("p", {}, words) : null,
      ...probabilities(face), ...roundsTable(face), ...nearestFaces(face), make("h3", {}, "File"), pathLine(face), moves);
    byId("face-body").replaceChildren(make("div", {class: "face"}, stage(face), details));
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  function step(by) {
    if (current < 0 || !listed.length) return;
    openFace(listed[(current + by + listed.length) % listed.length]);
  }

  byId("face").addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  byId("face").addEventListener("click", (event) => { if (event.target === byId("face")) byId("face").close(); });
  byId("face").addEventListener("close", () => { if (returnTo && returnTo.isConnected) returnTo.focus(); });

  /* -- the map --------------------------------------------------------------------------------------------------- */

  function select(indices) {
    chosen = indices === null ? null : new Set(indices.map((n) => data.map.faces[n]).filter((index) => index >= 0));
    byId("clear").disabled = chosen === null;
    byId("selected").textContent = indices === null ? "" : `${indices.length.toLocaleString("en")} points selected, ${chosen.size.toLocaleString("en")} with a picture: shown in part 5`;
    byId("filter").hidden = chosen === null;
    byId("filter").textContent = chosen === null ? "" : `Only the ${chosen.size.toLocaleString("en")} faces selected on the map.`;
    show(chosen === null ? open : "all");
  }

  function tip(point) {
    const index = data.map.faces[point], box = make("div", {});
    if (index >= 0) box.append(picture(faces[index], ""), make("p", {}, guess(faces[index])));
    else box.append(make("p", {}, Object.entries(data.map.groups).map(([name, group]) => `${name} ${group.values[group.codes[point]] || "unknown"}`).join("; ")));
    return box;
  }

  show("surest");
  if (data.map) {
    const {x, y, groups, num_labeled: numLabeled} = data.map, names = Object.keys(groups), first = x.length - numLabeled;
    const points = {x: x.map((v) => v / 999), y: y.map((v) => v / 999), marked: x.map((_, n) => Number(n >= first)), groups};
    byId("color-by").append(...names.map((name) => make("option", {value: name}, name)));
    const drawn = drawMap(byId("points"), points, {colorBy: names[0], legend: byId("legend"), tip, onSelect: select,
      onOpen: (point) => { if (data.map.faces[point] >= 0) openFace(data.map.faces[point], byId("points")); }});
    byId("color-by").addEventListener("change", (event) => drawn.colorBy(event.target.value));
    byId("clear").addEventListener("click", () => { drawn.colorBy(byId("color-by").value); });
  }
})();
