// How high the tracks are, so that those of several runs fit one screen.

// Of a screen with so many pixels nothing is left, by the number of runs; what is more goes to the tracks.
const SCREENS = {2: 736, 3: 900};
const MOST_SPARE = 280;

/**
 * Heights in pixels: {bus: {tallest, isLow}, ratioRow, profile, strips: {row, gap}}.
 *
 * @param runs How many are drawn. @param screen The height of the window.
 */
export function roomFor(runs, screen) {
  if (runs === 1) return {bus: {tallest: 56, isLow: false}, profile: 96, strips: {row: 16, gap: 2}};
  const spare = Math.max(0, Math.min(MOST_SPARE, screen - (SCREENS[runs] ?? SCREENS[3])));
  const isPair = runs === 2;
  const grown = (least, part) => Math.round(least + part * spare);
  return {
    bus: {tallest: grown(isPair ? 32 : 24, 0.08), isLow: true},
    ratioRow: isPair || spare > 90 ? 13 : 7,
    profile: grown(isPair ? 84 : 80, 0.16),
    strips: {row: grown(isPair ? 9 : 7, 0.01), gap: isPair ? 4 : 3},
  };
}
