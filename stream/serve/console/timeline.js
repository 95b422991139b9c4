// All parties of a call on one time line: a lane each, a block for each segment.
import { html, memo } from "./ui.js";
import { clock, known } from "./format.js";
import { LETTERS } from "./palette.js";

const WIDTH = 1000; // units of the picture
const LANE = 30;
const LETTER_PX = 15; // a narrower block has no letter
const TICKS = [5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200];

const Block = memo(({ seg, x, width, y, chosen, onChoose }) => {
  const name = seg.kind === "gap" ? "gap" : known(seg.correction?.label ?? seg.label);
  const text = `${clock(seg.start_s)} ${name}${seg.final ? "" : ", provisional"}`;
  return html`<rect class=${`e-${name}${seg.final ? "" : " partial"}${chosen ? " chosen" : ""}`} x=${x} y=${y}
    width=${Math.max(1.5, width)} height=${LANE - 8} rx="2" onClick=${() => onChoose(seg)}><title>${text}</title></rect>`;
});

/** `lanes`: [{id, name, segments}]. Pointer only: the transcript has the same segments for the keyboard. */
export const Timeline = memo(({ lanes, duration, chosen, onChoose }) => {
  const total = Math.max(duration, 10);
  const scale = WIDTH / total;
  const fits = LETTER_PX / Math.max(200, innerWidth - 180);
  const tick = TICKS.find((seconds) => total / seconds <= Math.max(4, innerWidth / 140)) ?? 14400;
  const ticks = Array.from({ length: Math.floor(total / tick) + 1 }, (_, i) => i * tick);
  const spoken = lanes.map((lane) => `${lane.name}: ${lane.segments.length} segments`).join(", ");
  return html`<div class="timeline" role="img" aria-label=${`Time line of ${clock(total)}. ${spoken}`}>
    <div class="lanes">${lanes.map((lane) => html`<span key=${lane.id}>${lane.name}</span>`)}</div>
    <div class="plot"><svg viewBox=${`0 0 ${WIDTH} ${LANE * lanes.length}`} preserveAspectRatio="none" height=${LANE * lanes.length}>
      ${lanes.map((lane, i) => html`<g key=${lane.id}>
        <line class="rule" x1="0" x2=${WIDTH} y1=${i * LANE + LANE / 2} y2=${i * LANE + LANE / 2} />
        ${lane.segments.map((seg) => html`<${Block} key=${seg.segment} seg=${seg} x=${seg.start_s * scale}
          width=${(seg.end_s - seg.start_s) * scale} y=${i * LANE + 4} chosen=${chosen === seg} onChoose=${onChoose} />`)}</g>`)}</svg>
      <div class="letters" aria-hidden="true">${lanes.flatMap((lane, i) => lane.segments
        .filter((seg) => seg.kind === "verdict" && (seg.end_s - seg.start_s) / total > fits)
        .map((seg) => html`<span key=${`${lane.id}.${seg.segment}`} class=${`e-${known(seg.correction?.label ?? seg.label)}`}
          style=${{ left: `${((seg.start_s + seg.end_s) / 2 / total) * 100}%`, top: `${i * LANE + LANE / 2}px` }}
          >${LETTERS[known(seg.correction?.label ?? seg.label)]}</span>`))}</div>
      <div class="axis" aria-hidden="true">${ticks.map((at) => html`<span key=${at} style=${{ left: `${(at / total) * 100}%` }}>${clock(at)}</span>`)}</div>
    </div></div>`;
});
