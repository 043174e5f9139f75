// Controls: a menu of one, and a list of several behind a button.

import {html} from "./dom.js";

/** @param options [[value, words]], or [[group, [[value, words]]]] under headings. */
export function menu(label, options, value, onChange) {
  const select = html("select", {onchange: () => onChange(select.value)}, ...options.map(([each, words]) => {
    if (!Array.isArray(words)) return option(each, words, value);
    return html("optgroup", {label: each}, ...words.map((inner) => option(...inner, value)));
  }));
  return html("label", {class: "gf-menu"}, html("span", {}, label), select);
}

const option = (each, words, value) => html("option", {value: each, selected: each === value}, words);

/** A list of boxes; it stays open while the page is drawn anew. */
export class Picker {
  constructor(label, onChange) {
    this.label = label;
    this.onChange = onChange;
    this.summary = html("summary", {});
    this.list = html("div", {class: "gf-options"});
    this.element = html("details", {class: "gf-picker"}, this.summary, this.list);
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.element.open) return;
      this.element.open = false;
      this.summary.focus();
    });
    document.addEventListener("pointerdown", (event) => {
      if (!this.element.contains(event.target)) this.element.open = false;
    });
  }

  /** @param options [[value, words, why it cannot be chosen]] @param chosen An array, in the order of choosing. */
  set(options, chosen, said) {
    this.chosen = chosen;
    this.summary.replaceChildren(html("span", {}, this.label), said);
    const key = JSON.stringify(options);
    if (key !== this.key) {
      this.key = key;
      this.list.replaceChildren(...options.map((option) => this.#option(...option)));
    }
    for (const box of this.list.querySelectorAll("input")) box.checked = chosen.includes(box.value);
  }

  #option(value, words, refusal) {
    const box = html("input", {
      type: "checkbox", value, disabled: Boolean(refusal),
      onchange: () => {
        const others = this.chosen.filter((each) => each !== value);
        this.onChange(box.checked ? [...others, value] : others);
      },
    });
    return html("label", {title: refusal ?? value, class: refusal ? "is-refused" : null}, box, words);
  }
}
