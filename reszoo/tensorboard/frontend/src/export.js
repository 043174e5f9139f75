// The tracks as a picture of their own: an SVG with everything that is seen, or a PNG of it at double
// size. Texts stay texts, and what is drawn by SVG stays SVG; a heatmap is an image inside.

import {download, svg} from "./dom.js";

const PADDING = 14;
const HEAD = 24;
const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linecap", "opacity",
  "font-size", "font-weight", "font-family", "text-anchor", "visibility"];
const LEFT_OUT = ".gf-controls, .gf-question, .gf-column, .gf-lens, [hidden], title";

/** @param root The element to draw. @param title A line above it: the runs and the step. */
export function toSvg(root, title, patterns) {
  const box = root.getBoundingClientRect();
  const style = getComputedStyle(root);
  const [width, height] = [box.width + 2 * PADDING, box.height + 2 * PADDING + HEAD];
  const picture = svg("svg", {xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}`,
    "font-family": style.fontFamily});
  const at = ({left, top}) => [left - box.left + PADDING, top - box.top + PADDING + HEAD];
  picture.append(svg("title", {}, title), inlined(patterns), svg("rect", {width, height, fill: style.backgroundColor}),
    svg("text", {x: PADDING + 12, y: PADDING + 12, fill: style.color, "font-size": 14, "font-weight": 600}, title));
  for (const element of root.querySelectorAll("svg, canvas, .gf-tile, .gf-dot")) {
    if (element.closest(LEFT_OUT) || element.parentElement.closest("svg")) continue;
    picture.append(...drawn(element, at(element.getBoundingClientRect())));
  }
  picture.append(...texts(root, at));
  return picture;
}

function drawn(element, [x, y]) {
  const {width, height} = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  if (element.tagName === "CANVAS") return [svg("image", {x, y, width, height, href: element.toDataURL()})];
  if (element.classList.contains("gf-tile")) {
    const dot = getComputedStyle(element, "::before").backgroundColor;
    return [svg("rect", {x, y, width, height, rx: 6, fill: "none", stroke: style.borderTopColor}),
      svg("circle", {cx: x + 13, cy: y + height / 2, r: 4, fill: dot})];
  }
  if (element.classList.contains("gf-dot")) {
    return [svg("circle", {cx: x + width / 2, cy: y + height / 2, r: width / 2, fill: style.backgroundColor})];
  }
  const clone = inlined(element);
  for (const [name, value] of Object.entries({x, y, width, height})) clone.setAttribute(name, value);
  clone.setAttribute("overflow", "visible");
  return [clone];
}

/** A copy whose colours do not need the page's style sheet. */
function inlined(element) {
  const clone = element.cloneNode(true);
  const pairs = [[element, clone], ...Array.from(element.querySelectorAll("*"), (each, i) => [each, clone.querySelectorAll("*")[i]])];
  for (const [from, to] of pairs) {
    const style = getComputedStyle(from);
    for (const name of STYLED) {
      const value = style.getPropertyValue(name);
      if (value && value !== "normal") to.setAttribute(name, value.replaceAll('"', ""));
    }
    for (const name of ["style", "class", "tabindex", "role", "data-block"]) to.removeAttribute(name);
  }
  return clone;
}

/** Every text outside of a drawing, line by line where it stands. */
function texts(root, at) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || parent.closest(`svg, button, ${LEFT_OUT}`)) continue;
    found.push(...linesOf(walker.currentNode, getComputedStyle(parent), at));
  }
  return found;
}

function linesOf(node, style, at) {
  const lines = new Map();
  for (const word of node.data.matchAll(/\S+/g)) {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const box = range.getBoundingClientRect();
    if (!box.width) continue;
    const key = Math.round(box.top);
    if (!lines.has(key)) lines.set(key, {box, words: []});
    lines.get(key).words.push(word[0]);
  }
  return [...lines.values()].map(({box, words}) => {
    const [x, y] = at(box);
    return svg("text", {x, y: y + box.height * 0.78, fill: style.color, "font-size": style.fontSize,
      "font-weight": style.fontWeight}, words.join(" "));
  });
}

export function saveSvg(root, title, patterns) {
  download("gradient_flow.svg", new Blob([textOf(toSvg(root, title, patterns))], {type: "image/svg+xml"}));
}

/** Drawn at double size, for print and slides. */
export async function savePng(root, title, patterns) {
  const picture = toSvg(root, title, patterns);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(textOf(picture))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * picture.getAttribute("width");
  canvas.height = 2 * picture.getAttribute("height");
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => download("gradient_flow.png", blob), "image/png");
}

const textOf = (picture) => new XMLSerializer().serializeToString(picture);
