// Segments as text: tags, and words shaded by confidence.

import { ICONS, clock, element, icon, percent } from "./dom.js";
import { chips } from "./tags.js";

const { text } = window.sensevoice;

const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}、。，！？；：「」]/u;
const CERTAIN = 0.95; // No shade from here on.

/** One segment; `player` where it can be heard. */
export function segmentRow(segment, player) {
  const times = { start: clock(segment.start), end: clock(segment.end) };
  const body = element("div", { class: "sv-said" }, chips(segment), words(segment, player));
  const listen = player && element("button", {
    type: "button", class: "sv-listen", "aria-label": text("play_segment", times),
    title: text("play_segment", times), onclick: () => player.playPart(segment.start, segment.end),
  }, icon(ICONS.play), element("span", {}, times.start));
  const row = element("li", { class: "sv-segment" }, listen, body);
  player?.moved.push((seconds) =>
    row.classList.toggle("sv-now", seconds >= segment.start && seconds < segment.end));
  return row;
}

function words(segment, player) {
  if (!segment.text) return element("p", { class: "sv-words sv-silent" }, text("no_speech"));
  if (!segment.words?.length) return element("p", { class: "sv-words" }, segment.text);
  const spans = segment.words.flatMap((word, index) => {
    const before = segment.words[index - 1]?.text.at(-1);
    const space = before && !UNSPACED.test(before) && !UNSPACED.test(word.text[0]) ? " " : null;
    return [space, wordSpan(word, player)];
  });
  return element("p", { class: "sv-words" }, spans);
}

function wordSpan(word, player) {
  const doubt = Math.max(0, CERTAIN - word.confidence) / CERTAIN;
  const span = element("span", {
    class: "sv-word", title: text("word_sure", { percent: percent(word.confidence) }),
    "data-confidence": word.confidence, style: { "--doubt": doubt.toFixed(3) },
  }, word.text);
  if (player && word.start !== null) {
    span.addEventListener("click", () => player.seek(word.start));
    player.moved.push((seconds) =>
      span.classList.toggle("sv-now", player.playing && seconds >= word.start && seconds < word.end));
  }
  return span;
}

/** What the shades mean. */
export const confidenceLegend = () =>
  element("span", { class: "sv-legend" }, text("confidence"), " ", text("low"),
    [0.9, 0.6, 0.3, 0].map((doubt) => element("i", { style: { "--doubt": doubt } })), text("high"));
