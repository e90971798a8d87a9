/* What the decision on a face says: value, confidence beside its threshold, reason, probabilities, nearest faces, votes. */

import {confidence, element, percent} from "./dom.js";
import {look} from "./items.js";

const WHERE_FROM = {
  accepted: "accepted pseudo-label", rejected: "rejected pseudo-label", known: "known: it came with the face",
  labeled: "label of a person",
};

/** Fill the panel from the list's item; `face`, all that is behind it, may come later (null until then). */
export function drawDetails(panel, {item, attribute, face, picture}) {
  const label = item.labels[attribute], behind = face?.labels[attribute], parts = [];
  parts.push(guess(attribute, label, behind));
  const seen = look(label);
  if (seen.kind !== "open") parts.push(element("p", {class: `verdict ${seen.kind}`}, element("b", {"aria-hidden": "true"}, seen.mark), element("bdi", {}, seen.words)));
  if (behind) {
    if (behind.reason && behind.reason !== "known") parts.push(element("p", {class: "reason"}, element("bdi", {}, `${capital(inWords(behind.reason))}.`), behind.words ? ` ${behind.words}` : ""));
    if (behind.probabilities.length) parts.push(probabilities(behind));
    if (behind.votes.length) parts.push(votes(behind.votes));
  }
  if (face) {
    parts.push(nearest(face, picture));
    const group = face.origin && face.origin !== face.source ? `, group ${face.origin}` : "";
    parts.push(element("p", {class: "from"}, element("bdi", {}, `Source ${face.source}${group}`)));
  }
  panel.replaceChildren(...parts.filter((part) => part !== null));
}

function guess(attribute, label, behind) {
  if (label.hidden) {
    return element("div", {class: "guess-box"}, element("h2", {}, element("bdi", {}, attribute)),
      element("p", {class: "big"}, "What do you see?"), element("p", {class: "from"}, "The guess is hidden until you have answered."));
  }
  const bar = element("span", {class: "bar"}, element("i"));
  bar.firstChild.style.width = `${100 * (label.confidence ?? 0)}%`;
  if (behind && typeof behind.threshold === "number") {
    const tick = element("em", {title: `threshold ${behind.threshold}`});
    tick.style.left = `${100 * behind.threshold}%`;
    bar.append(tick);
  }
  return element("div", {class: "guess-box"},
    element("h2", {}, element("bdi", {}, attribute)),
    element("p", {class: "big"}, element("bdi", {}, label.guess ?? "unknown"), label.confidence === null ? "" : element("small", {}, confidence(label.confidence))),
    label.confidence === null ? null : bar,
    element("p", {class: "from"}, WHERE_FROM[label.status] ?? ""));
}

function probabilities(behind) {
  const rows = behind.probabilities.map(([value, share]) => {
    const bar = element("span", {class: "bar"}, element("i"));
    bar.firstChild.style.width = `${100 * share}%`;
    return element("li", {}, element("bdi", {}, value), bar, element("span", {class: "number"}, percent(share)));
  });
  return element("ul", {class: "probabilities", "aria-label": "Probabilities"}, ...rows);
}

function votes(all) {
  const words = {reject: "rejected it", unsure: "unsure"};
  return element("ul", {class: "votes", "aria-label": "Votes"}, ...all.map((vote) => element("li", {},
    element("bdi", {class: "who"}, vote.reviewer), element("bdi", {}, `: ${vote.value ?? words[vote.decision]}`))));
}

function nearest(face, picture) {
  if (face.map === "computing") return element("p", {class: "from"}, "The nearest labeled faces are being computed.");
  if (!face.nearest?.length) return null;
  return element("div", {class: "nearest"}, element("h3", {}, "Nearest labeled faces"),
    element("ul", {}, ...face.nearest.map((near) => element("li", {},
      element("img", {src: picture(near.row, "small"), alt: "", loading: "lazy"}), element("bdi", {}, near.labels)))));
}

const inWords = (reason) => reason.replace(" >= ", " is at least ").replace(" < ", " is below ");

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
