// The layers along the two paths of a block, as two lists beside each other.

import {html} from "./dom.js";
import {wholeNumber} from "./scales.js";

/** {skip, branch, activation} of a block, from the paths of its run; null if they are not known, undefined if the log does not say. */
export function layersOf(block, paths = []) {
  const {layers} = block;
  if (!layers) return layers;
  const path = (number) => paths[number].map(([name, kind, shape, parameters, activation]) => {
    return {name: name === null ? null : layers.prefix + name, kind, shape, parameters, activation};
  });
  return {skip: path(layers.skip), branch: path(layers.branch), activation: layers.activation};
}

/** What a layer has, in words: "Conv2D · 8×8×4 · 148 weights". */
export function layerInWords({name, kind, shape, parameters, activation}) {
  // Of operations of a layer's own code the log never has a shape.
  const unknown = name === null ? "" : "shape unknown";
  const size = shape ? shape.map((each) => each ?? "?").join("\u00d7") || "scalar" : unknown;
  const weights = parameters ? `${wholeNumber(parameters)}\u00a0weight${parameters > 1 ? "s" : ""}` : "";
  return [kind + (activation ? `, ${activation}` : ""), size, weights].filter(Boolean).join(" \u00b7 ");
}

/** The element with the lists, or the sentence that says why there are none. */
export function drawLayers(block, paths) {
  const layers = layersOf(block, paths);
  if (layers === undefined) return html("p", {class: "gf-note gf-layers-none"}, "The log does not say which layers.");
  if (layers === null) {
    return html("p", {class: "gf-note gf-layers-none"}, "Layers not known: the block applies its paths by code of its own.");
  }
  const after = layers.activation ? html("p", {class: "gf-note"}, `${layers.activation} of the sum`) : null;
  return html("div", {class: "gf-layers"},
    html("div", {class: "gf-layers-scroll", tabindex: "0", role: "region", "aria-label": "Layers of the block"},
      html("div", {class: "gf-layers-paths"}, listOf("skip", layers.skip), listOf("branch", layers.branch))),
    after);
}

function listOf(path, layers) {
  return html("div", {class: `gf-layers-${path}`},
    html("h3", {class: `gf-${path}-word`, id: `gf-layers-of-${path}`}, path),
    layers.length ? html("ol", {"aria-labelledby": `gf-layers-of-${path}`}, ...layers.map((layer) => html("li", {},
      html("span", {class: "gf-layer-name"}, layer.name ?? "own code"),
      html("span", {class: "gf-layer-kind"}, layerInWords(layer)))))
      : html("p", {class: "gf-note"}, "identity"));
}
