// The style sheet's colours, for what is drawn on a canvas.

export function themeOf(element) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: color("text"), muted: color("muted"), grid: color("grid"), panel: color("panel"),
    accent: color("accent"), alarm: color("alarm"), veil: color("veil"), band: color("band"), hatch: color("hatch"),
    smallFont: `11px ${style.fontFamily}`,
  };
}
