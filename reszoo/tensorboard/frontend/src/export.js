// Views as pictures of their own: an SVG with everything that is seen, a PNG of it at double size, or a
// PDF of its size by the browser's own print dialog. Texts stay texts, and what is drawn by SVG stays
// SVG. What is drawn on a canvas says what it is as SVG, by its property `picture`.

import {download, html, svg} from "./dom.js";

const PADDING = 14;
// The lines above a view: how high one is, and how wide a letter at most.
const [LINE, LETTER] = [19, 8.2];
const GAP = 8;
const STYLED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linecap", "opacity",
  "font-size", "font-weight", "font-family", "text-anchor", "visibility"];
const LEFT_OUT = ".gf-controls, .gf-question, .gf-take, .gf-column, .gf-lens, [hidden], title, "
  + "button:not(.gf-sheet *):not(.gf-legend *):not(.gf-run-name), [aria-pressed=\"false\"]:not(.gf-sheet *)";
// The page has its pattern too, which is not drawn where the page is not.
const [PATTERN, OWN_PATTERN] = ["gf-hatch", "gf-hatch-of-picture"];

/**
 * @param view {parts, title, patterns}: what stands under each other, a list of elements each; a line
 *   above it, with the runs and the step; and the patterns that it is drawn with.
 */
export function toSvg({parts, title, patterns}) {
  const rows = parts.map(boxOf);
  const [left, right] = [Math.min(...rows.map((row) => row.left)), Math.max(...rows.map((row) => row.right))];
  const width = Math.ceil(right - left + 2 * PADDING);
  const lines = wrapped(title, Math.floor((right - left) / LETTER));
  const style = getComputedStyle(parts[0][0].closest(".gf-section"));
  const picture = svg("svg", {xmlns: "http://www.w3.org/2000/svg", width, "font-family": style.fontFamily});
  const ground = svg("rect", {width, fill: style.backgroundColor});
  picture.append(svg("title", {}, title), inlined(patterns), ground,
    ...lines.map((line, i) => svg("text", {x: PADDING, y: PADDING + 12 + i * LINE, fill: style.color, "font-size": 14, "font-weight": 600}, line)));
  let y = PADDING + lines.length * LINE + 5;
  parts.forEach((elements, i) => {
    const {top, bottom} = rows[i];
    const from = y;
    const at = (box) => [box.left - left + PADDING, box.top - top + from];
    for (const element of elements) picture.append(...partsOf(element, at), ...texts(element, at));
    y += bottom - top + GAP;
  });
  const height = Math.ceil(y - GAP + PADDING);
  for (const each of [picture, ground]) each.setAttribute("height", height);
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  namePattern(picture);
  return picture;
}

/** A text in lines of at most so many letters, of which only a longer word has more. */
function wrapped(text, letters) {
  const lines = [];
  for (const word of text.split(" ")) {
    if (lines.length && lines.at(-1).length + 1 + word.length <= letters) lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines;
}

function boxOf(elements) {
  const boxes = elements.map((element) => element.getBoundingClientRect());
  const end = (side, of) => of(...boxes.map((box) => box[side]));
  return {left: end("left", Math.min), right: end("right", Math.max), top: end("top", Math.min), bottom: end("bottom", Math.max)};
}

function namePattern(picture) {
  picture.querySelector("pattern")?.setAttribute("id", OWN_PATTERN);
  for (const each of picture.querySelectorAll("[fill]")) {
    const fill = each.getAttribute("fill");
    if (fill.includes(`#${PATTERN}`)) each.setAttribute("fill", `url(#${OWN_PATTERN})`);
  }
}

const DRAWN = "svg, canvas, tr, .gf-tile, .gf-dot";

function partsOf(root, at) {
  const found = [...(root.matches(DRAWN) ? [root] : []), ...root.querySelectorAll(DRAWN)];
  return found.filter((each) => !each.closest(LEFT_OUT) && !each.parentElement.closest("svg"))
    .flatMap((each) => drawn(each, at(each.getBoundingClientRect())));
}

function drawn(element, [x, y]) {
  const {width, height} = element.getBoundingClientRect();
  const style = getComputedStyle(element);
  if (element.tagName === "CANVAS") {
    if (element.picture) return [svg("g", {transform: `translate(${x} ${y})`}, element.picture())];
    return [svg("image", {x, y, width, height, href: element.toDataURL()})];
  }
  if (element.tagName === "TR") return [svg("path", {d: `M${x} ${y + height}h${width}`, stroke: getComputedStyle(element.lastChild).borderBottomColor})];
  if (element.classList.contains("gf-tile")) {
    const dot = getComputedStyle(element, "::before");
    const stroke = parseFloat(dot.borderTopWidth) ? dot.borderTopColor : "none";
    return [svg("rect", {x, y, width, height, rx: 6, fill: "none", stroke: style.borderTopColor}),
      dot.display === "none" ? "" : svg("circle", {cx: x + 13, cy: y + height / 2, r: 4, fill: dot.backgroundColor, stroke})];
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
    if (!walker.currentNode.data.trim() || parent.closest(`svg, ${LEFT_OUT}`)) continue;
    found.push(...linesOf(walker.currentNode, getComputedStyle(parent), at));
  }
  return found;
}

function linesOf(node, style, at) {
  const lines = new Map();
  // A line may break after a hyphen too.
  for (const word of node.data.matchAll(/[^\s-]*-|[^\s-]+/g)) {
    const [start, end] = [word.index, word.index + word[0].length];
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    const box = range.getBoundingClientRect();
    if (!box.width) continue;
    const key = Math.round(box.top);
    if (!lines.has(key)) lines.set(key, {box, start});
    lines.get(key).end = end;
  }
  return [...lines.values()].map(({box, start, end}) => {
    const [x, y] = at(box);
    return svg("text", {x, y: y + box.height * 0.78, fill: style.color, "font-size": style.fontSize,
      "font-weight": style.fontWeight}, node.data.slice(start, end).replaceAll(/\s+/g, " "));
  });
}

export function saveSvg(view) {
  download(`${view.name}.svg`, new Blob([textOf(toSvg(view))], {type: "image/svg+xml"}));
}

/** Drawn at double size, for slides. */
export async function savePng(view) {
  const picture = toSvg(view);
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(textOf(picture))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * picture.getAttribute("width");
  canvas.height = 2 * picture.getAttribute("height");
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => download(`${view.name}.png`, blob), "image/png");
}

const textOf = (picture) => new XMLSerializer().serializeToString(picture);

const PRINTS_MS = 1500;
// Takes the picture that is being printed off the page; nothing before the first.
let endOfPrint = () => {};

/**
 * Opens the print dialog on the picture alone, on a page of its size; "Save as PDF" there gives a PDF
 * whose lines are lines and whose texts are texts.
 *
 * @param refused Called where a frame may not print.
 */
export function savePdf(view, refused) {
  endOfPrint(); // of a print that did not begin
  const picture = toSvg(view);
  // A pixel more, since a page that is rounded down is two.
  const [width, height] = [picture.getAttribute("width"), Number(picture.getAttribute("height")) + 1];
  const style = html("style", {}, `@page { size: ${width}px ${height}px; margin: 0; }
    .gf-print { display: none; }
    @media print { body > :not(.gf-print) { display: none !important; } .gf-print, .gf-print > svg { display: block; } }`);
  const sheet = html("div", {class: "gf-print"}, picture);
  const {title} = document;
  document.title = view.name;
  document.body.append(style, sheet);
  const listening = new AbortController();
  const {signal} = listening;
  // A frame that may not print does nothing, and says so to nobody.
  const waiting = setTimeout(() => {
    endOfPrint();
    refused();
  }, PRINTS_MS);
  endOfPrint = () => {
    endOfPrint = () => {};
    clearTimeout(waiting);
    listening.abort();
    style.remove();
    sheet.remove();
    document.title = title;
  };
  window.addEventListener("beforeprint", () => clearTimeout(waiting), {signal});
  window.addEventListener("afterprint", () => endOfPrint(), {signal});
  window.print();
}
