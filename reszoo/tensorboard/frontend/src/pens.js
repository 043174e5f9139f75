// Two pens with one set of strokes, so that what is drawn on a canvas can be an SVG as well.

import {svg} from "./dom.js";

const FONT_SIZE = 11;

export const canvasPen = (context, theme) => ({
  rect(color, x, y, width, height) {
    context.fillStyle = color;
    context.fillRect(x, y, width, height);
  },
  triangle(color, ...points) {
    context.fillStyle = color;
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.fill();
  },
  /** A text that ends at x, with its middle at y. */
  text(color, words, x, y) {
    Object.assign(context, {font: theme.smallFont, textAlign: "right", textBaseline: "middle", fillStyle: color});
    context.fillText(words, x, y);
  },
});

export const svgPen = (group) => ({
  rect: (fill, x, y, width, height) => group.append(svg("rect", {x, y, width, height, fill})),
  triangle: (fill, ...points) => group.append(svg("polygon", {points: points.join(" "), fill})),
  text: (fill, words, x, y) => group.append(svg("text", {x, y: y + 4, "text-anchor": "end", "font-size": FONT_SIZE, fill}, words)),
});
