// Numbers, times and names as text.
import { LABELS, UNKNOWN } from "./palette.js";

const two = (n) => String(n).padStart(2, "0");

/** Return seconds as 1:05 or 1:01:05. */
export function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(s / 60);
  return minutes < 60 ? `${minutes}:${two(s % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(s % 60)}`;
}

/** Return a length of time in one unit: 12 s, 3 min, 2 h, 4 d. */
export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

export const share = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);
export const ms = (value) => (value === null || value === undefined ? "–" : `${Math.round(value)} ms`);
export const number = (value) => (value ?? 0).toLocaleString("en");

/** Return a number with its noun: 1 segment, 2 segments. */
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Return a moment (ISO text or milliseconds) in the reader's own time. */
export function moment(value) {
  const at = new Date(value);
  if (Number.isNaN(at.getTime())) return "";
  const today = new Date().toDateString() === at.toDateString();
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return today ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** Return a label that the page knows. */
export const known = (label) => (LABELS.includes(label) ? label : UNKNOWN);

/** Return [call, party] of a stream's name. */
export function split(name) {
  const at = name.lastIndexOf("/");
  return at > 0 ? [name.slice(0, at), name.slice(at + 1)] : [name, ""];
}
