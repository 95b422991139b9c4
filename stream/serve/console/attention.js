// How much a stream needs a person: from 0 (calm) to 1 (urgent).
const WEIGHTS = { angry: 1, fear: 0.85, disgust: 0.7, contempt: 0.7, sad: 0.55, surprise: 0.25 };
const KEEPS = 0.6; // of the level before, at each new segment

/** Return the level after a verdict. A calm segment lowers it, a distressed one raises it. */
export function after(level, label, confidence) {
  const now = (WEIGHTS[label] ?? 0) * (0.4 + 0.6 * (confidence ?? 0.5));
  return Math.max(0, Math.min(1, KEEPS * level + (1 - KEEPS) * 1.6 * now));
}

export const STEPS = ["calm", "watch", "raised", "urgent"];

/** Return the step of a row, 0 to 3: an open alert is at least "raised". */
export function step(row) {
  if (row.ended) return 0;
  const own = row.level >= 0.7 ? 3 : row.level >= 0.4 ? 2 : row.level >= 0.15 ? 1 : 0;
  return row.openAlerts ? Math.max(own, 2) : own;
}

/** Compare two rows: what needs attention first, ended ones last, then by name. */
export function byNeed(a, b) {
  return Number(a.ended) - Number(b.ended)
    || step(b) - step(a)
    || b.openAlerts - a.openAlerts
    || b.level - a.level
    || a.name.localeCompare(b.name, undefined, { numeric: true });
}
