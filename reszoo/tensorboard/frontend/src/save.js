// The menu beside a view's name that takes the view along.

import {html} from "./dom.js";
import {savePdf, savePng, saveSvg} from "./export.js";

export const KINDS = [["SVG", saveSvg], ["PNG", savePng], ["PDF", savePdf]];

/** @param words The view's name. @param save Called with how to save it and the menu. */
export function saveMenu(words, save) {
  const menu = html("details", {class: "gf-take", onkeydown: (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    close(true);
    event.preventDefault();
  }},
    html("summary", {title: `Take \u201c${words}\u201d along`, "aria-label": `Take ${words} along`}, "\u2193"),
    html("div", {class: "gf-take-kinds"}, ...KINDS.map(([kind, how]) => html("button", {
      type: "button", class: "gf-button", onclick: () => {
        close(true);
        save(how, menu);
      },
    }, kind))));
  const close = (isChosen) => {
    menu.open = false;
    if (isChosen) menu.querySelector("summary").focus({preventScroll: true});
  };
  document.addEventListener("pointerdown", (event) => menu.contains(event.target) || close(false));
  return menu;
}
