// What the person chose, kept in the page's address so that a view can be shared.
//
// Inside TensorBoard the page is a frame, and the address is the one above it: there a plugin's
// values are named `p.<plugin>.<name>`, as TensorBoard's own plugin library reads them.

const PREFIX = "p.gradient_flow.";

const SHAPES = {
  runs: "list", step: "number", width: "text", color: "text", map: "text", scale: "text",
  blocks: "list", lines: "list", smooth: "number", from: "number", to: "number",
  widths: "text", values: "text", stage: "text", inspect: "text", cut: "list", focus: "text", sort: "text",
  maps: "text", below: "number", above: "number",
};

function host() {
  try {
    if (window.parent !== window && window.parent.location.href) return window.parent;
  } catch {
    // Another site shows the page in a frame.
  }
  return window;
}

/** The address of the view as it stands; null in a frame that has none of its own, as in a notebook. */
export const addressOf = () => (host().location.protocol === "about:" ? null : host().location.href);

export function readState() {
  const parts = host().location.hash.replace(/^#/, "").split("&");
  const state = {};
  for (const part of parts) {
    const [name, text] = part.split(/=(.*)/s).slice(0, 2).map(decode);
    const key = name.startsWith(PREFIX) ? name.slice(PREFIX.length) : null;
    if (key === null || !(key in SHAPES) || text === undefined) continue;
    const value = parse(SHAPES[key], text);
    if (value !== null) state[key] = value;
  }
  return state;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function parse(shape, text) {
  if (shape === "number") return text !== "" && Number.isFinite(Number(text)) ? Number(text) : null;
  if (shape === "text") return text;
  try {
    const list = JSON.parse(text);
    return Array.isArray(list) && list.every((item) => typeof item === "string") ? list : null;
  } catch {
    return null;
  }
}

export function writeState(state) {
  const view = host();
  const others = view.location.hash.replace(/^#/, "").split("&").filter((part) => {
    return part && !decode(part).startsWith(PREFIX);
  });
  const own = Object.keys(SHAPES).filter((key) => key in state && state[key] !== null).map((key) => {
    const text = SHAPES[key] === "list" ? JSON.stringify(state[key]) : String(state[key]);
    return `${PREFIX}${key}=${encodeURIComponent(text)}`;
  });
  const hash = `#${[...others, ...own].join("&")}`;
  if (hash === view.location.hash) return;
  try {
    view.history.replaceState(view.history.state, "", hash);
  } catch {
    // A notebook's frame has no address of its own; there the view cannot be shared.
  }
}

export function onStateChange(listener) {
  const view = host();
  view.addEventListener("hashchange", listener);
  if (view !== window) window.addEventListener("pagehide", () => view.removeEventListener("hashchange", listener));
}

/** Calls the listener with whether the page is to be dark, now and at every change. */
export function followTheme(listener) {
  const view = host();
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const body = view === window ? null : view.document.body;
  const isDark = () => (body ? body.classList.contains("dark-mode") : system.matches);
  listener(isDark());
  system.addEventListener("change", () => listener(isDark()));
  if (body) {
    const observer = new MutationObserver(() => listener(isDark()));
    observer.observe(body, {attributes: true, attributeFilter: ["class"]});
    window.addEventListener("pagehide", () => observer.disconnect());
  }
}
