// Statistics of a call, by the same rules as the report (stream/report/talk.py).
const TURN_PAUSE_S = 0.5;
const OVERLAP_S = 0.5;
const DEAD_AIR_S = 3;

/** Return {parties: {id: {talk_s, turns, interruptions, share}}, overlap_s, silence_s, longest_s, dead_air}. */
export function talk(ids, segments) {
  const found = { overlap_s: 0, silence_s: 0, longest_s: 0, dead_air: 0, parties: {} };
  for (const id of ids) found.parties[id] = { talk_s: 0, turns: 0, interruptions: 0, share: 0 };
  const turns = new Map();
  let busy_s = 0;
  for (const one of [...segments].filter((seg) => seg.final).sort((a, b) => a.start_s - b.start_s)) {
    const silence_s = one.start_s - busy_s;
    if (silence_s > 0) {
      found.silence_s += silence_s;
      found.longest_s = Math.max(found.longest_s, silence_s);
      found.dead_air += Number(silence_s >= DEAD_AIR_S);
    }
    busy_s = Math.max(busy_s, one.end_s);
    if (one.kind === "verdict") speak(found, turns, one);
  }
  const total = ids.reduce((sum, id) => sum + found.parties[id].talk_s, 0);
  for (const id of ids) found.parties[id].share = total ? found.parties[id].talk_s / total : 0;
  return found;
}

function speak(found, turns, one) {
  const me = found.parties[one.stream_id];
  me.talk_s += one.end_s - one.start_s;
  const others = [...turns].filter(([id]) => id !== one.stream_id).map(([, turn]) => turn);
  const turn = turns.get(one.stream_id);
  if (!turn || one.start_s - turn.end_s > TURN_PAUSE_S) {
    const over = others.find((other) => other.start_s < one.start_s && one.start_s < other.end_s) ?? null;
    turns.set(one.stream_id, { start_s: one.start_s, end_s: one.end_s, over, counted: false, party: me });
    me.turns += 1;
  } else {
    turn.end_s = Math.max(turn.end_s, one.end_s);
  }
  const both_s = Math.max(0, ...others.map((other) => Math.min(one.end_s, other.end_s) - one.start_s));
  found.overlap_s += both_s;
  for (const each of turns.values()) {
    if (!each.over || each.counted || Math.min(each.end_s, each.over.end_s) - each.start_s < OVERLAP_S) continue;
    each.counted = true;
    each.party.interruptions += 1;
  }
}
