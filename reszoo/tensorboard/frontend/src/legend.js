// What widths and colours mean, with units.

import {html, sizeCanvas, svg} from "./dom.js";
import {colorOfLost, HATCH, inWords, number} from "./scales.js";

const BAR = 150;

export function widthLegend(widths, title, description) {
  const samples = widths.ticks.map((value) => html("span", {class: "gf-sample"},
    svg("svg", {width: 22, height: 18, "aria-hidden": "true"},
      svg("rect", {class: "gf-ribbon", x: 0, y: 9 - widths.of(value) / 2, width: 22, height: widths.of(value)})),
    number(value)));
  return html("figure", {class: "gf-widths"},
    html("figcaption", {}, title,
      html("span", {}, [description.unit, widths.log ? "log scale" : "linear, of the step"].filter(Boolean).join(", "))),
    ...samples);
}

/** The colours of the two paths. */
export function pathKey() {
  return html("figure", {}, html("figcaption", {}, "colour: path"), ...["skip", "branch"].map((path) => {
    return html("span", {class: "gf-sample"},
      svg("svg", {width: 22, height: 12, "aria-hidden": "true"},
        svg("rect", {class: `gf-ribbon gf-${path}`, x: 0, y: 2, width: 22, height: 8})), path);
  }));
}

/** The stripes of what is not defined. */
export function undefinedKey() {
  return html("span", {class: "gf-sample gf-undefined-key"},
    svg("svg", {width: 22, height: 12, "aria-hidden": "true"},
      svg("rect", {x: 0, y: 0, width: 22, height: 12, fill: HATCH})), "not defined");
}

/** What is infinite. */
export function infiniteKey() {
  return html("span", {class: "gf-sample"},
    svg("svg", {width: 22, height: 12, "aria-hidden": "true"},
      svg("rect", {x: 0, y: 2, width: 22, height: 8, fill: colorOfLost(Infinity)})), "infinite");
}

/** A bar of colours with its ends and ticks. */
export function colorBar(colors, description, use) {
  const unit = description.unit.replace(/^none,?\s*/, "");
  const scaleWords = colors.isLog ? "log scale" : "";
  const words = [unit, scaleWords].filter(Boolean).join(", ");
  const isShare = description.name.includes("share");
  return bar(colors, [use ? `${use}: ` : "", inWords(description.name)].join(""), words, {
    low: isShare ? "all branch" : null, high: isShare ? "all skip" : null, label: colors.isQuotient ? ofQuotients(colors) : number,
  });
}

/** A bar of quotients or differences; the ends of quotients stand for all beyond them. */
export function quotientBar(colors, title) {
  return bar(colors, title, colors.isQuotient ? "" : "difference", {label: colors.isQuotient ? ofQuotients(colors) : number});
}

/** Quotients in words, of which the ends stand for all beyond. */
function ofQuotients({ticks: [low, , high]}) {
  return (value) => `${value === low ? "\u2264 " : value === high ? "\u2265 " : ""}\u00d7${number(value)}`;
}

function bar(colors, title, words, {low = null, high = null, label}) {
  const canvas = html("canvas", {"aria-hidden": "true"});
  const context = sizeCanvas(canvas, BAR, 10);
  for (let x = 0; x < BAR; x += 1) {
    context.fillStyle = colors.colors((x + 0.5) / BAR);
    context.fillRect(x, 0, 1, 10);
  }
  const ticks = low
    ? [[0, low], [1, high]]
    : spread(colors.ticks.map((value) => [colors.at(value), label(value)]));
  return html("figure", {class: "gf-bar"},
    html("figcaption", {}, title, words ? html("span", {}, words) : null),
    html("div", {class: "gf-bar-body"}, canvas, html("div", {class: "gf-ticks"}, ...ticks.map(([at, text]) => {
      const tick = html("span", {}, text);
      tick.style.left = `${at * 100}%`;
      return tick;
    }))));
}

/** Leaves out ticks whose words would lie on each other. */
function spread(ticks) {
  let last = -Infinity;
  return ticks.filter(([at, text]) => {
    const half = (text.length * 6.6) / (2 * BAR);
    if (at - half < last) return false;
    last = at + half + 8 / BAR;
    return true;
  });
}
