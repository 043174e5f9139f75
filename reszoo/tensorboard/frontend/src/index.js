// The page. TensorBoard imports this module and calls render(); a report holds its data in itself.

import {App} from "./app.js";
import {html} from "./dom.js";
import {uPlotStyle} from "./lines.js";
import {EmbeddedSource, ServerSource} from "./source.js";
import style from "./style.css";

export async function render(source = new ServerSource(), parent = document.body) {
  document.documentElement.lang = "en";
  document.head.append(html("style", {}, uPlotStyle + style));
  const app = new App(source);
  parent.append(app.element);
  await app.start();
}

const held = document.getElementById("gradient-flow-data");
if (held) render(new EmbeddedSource(JSON.parse(held.textContent)));
