// The waveform, and below it a lane each for language, emotion and sound.

import { clock, drawing, element, percent } from "./dom.js";
import { KINDS, colours } from "./tags.js";

const { label, text } = window.sensevoice;

const HEIGHT = 96;
const STEP_SECONDS = 5;
// A narrower segment is hard to hit, the more so with a finger: the timeline scrolls instead.
const SEGMENT_PIXELS = matchMedia("(max-width: 640px)").matches ? 52 : 34;
const MOST_PIXELS = 12000;
const SHORT = { zh: "ZH", en: "EN", yue: "YUE", ja: "JA", ko: "KO" }; // Has room where a name has none.

/** The timeline of a transcript, moved by a player and moving it. */
export function timeline({ transcript, outline }, player) {
  const { duration } = transcript;
  const segments = transcript.segments ?? [];
  const head = element("div", { class: "sv-head", "aria-hidden": "true" });
  const wave = waveform(outline, duration, player);
  const lanes = KINDS.map((kind) => lane(kind, segments, duration, player));
  const inner = element("div", { class: "sv-inner" }, wave.root, ruler(duration), lanes, head);
  const root = element("div", { class: "sv-scroll" }, inner);
  const zoom = zoomer(root, inner, width(segments, duration));
  player.moved.push((seconds) => {
    const share = Math.min(1, seconds / duration);
    head.style.left = `${share * 100}%`;
    wave.move(share, seconds);
    const at = share * inner.offsetWidth;
    if (at < root.scrollLeft || at > root.scrollLeft + root.clientWidth) root.scrollLeft = at - 40;
  });
  return element("div", { class: "sv-timeline" },
    element("div", { class: "sv-lane-names", "aria-hidden": "true" },
      KINDS.map((kind) => element("span", {}, text(kind.title)))),
    element("div", {}, root, element("div", { class: "sv-below" }, legend(segments), zoom)));
}

/** Two buttons; the middle of what is seen stays where it is. */
function zoomer(root, inner, least) {
  let pixels = least;
  inner.style.minWidth = `${least}px`;
  const button = (sign, factor, name) => element("button", {
    type: "button", class: "sv-button sv-zoom", "aria-label": text(name), title: text(name),
    onclick: () => {
      const middle = (root.scrollLeft + root.clientWidth / 2) / inner.offsetWidth;
      pixels = Math.min(MOST_PIXELS, Math.max(root.clientWidth, Math.max(pixels, root.clientWidth) * factor));
      inner.style.minWidth = `${factor < 1 && pixels === root.clientWidth ? 0 : pixels}px`;
      root.scrollLeft = middle * inner.offsetWidth - root.clientWidth / 2;
    },
  }, sign);
  return element("span", { class: "sv-buttons sv-zooms" }, button("−", 0.5, "zoom_out"), button("+", 2, "zoom_in"));
}

/** The names of the colours that occur, a row for each lane. */
function legend(segments) {
  const rows = KINDS.map((kind) => {
    const found = [...new Set(segments.map((segment) => segment[kind.field].label))];
    const names = found.map((one) => element("span", {},
      element("span", { class: "sv-dot", style: { background: colours(kind.names, one).background } }),
      label(kind.names, one)));
    return element("span", { class: "sv-legend-row" }, element("b", {}, text(kind.title)), names);
  });
  return element("div", { class: "sv-legends", "aria-hidden": "true" }, segments.length ? rows : []);
}

/** So wide that the shorter half of the segments can still be hit. */
function width(segments, duration) {
  if (!segments.length) return 0;
  const lengths = segments.map(({ start, end }) => end - start).sort((a, b) => a - b);
  const typical = lengths[Math.floor(lengths.length / 2)];
  return Math.min(MOST_PIXELS, Math.round((duration / Math.max(typical, 0.1)) * SEGMENT_PIXELS));
}

function waveform(outline, duration, player) {
  const shape = path(outline);
  const played = drawing("rect", { x: 0, y: 0, width: 0, height: HEIGHT });
  const clip = `sv-played-${Math.random().toString(36).slice(2)}`;
  const root = element("div", {
    class: "sv-wave", role: "slider", tabindex: 0, "aria-label": text("position"),
    "aria-valuemin": 0, "aria-valuemax": duration, "aria-valuenow": 0, "aria-valuetext": clock(0),
    onpointerdown: (event) => {
      jump(event);
      root.setPointerCapture(event.pointerId);
    },
    onpointermove: (event) => root.hasPointerCapture(event.pointerId) && jump(event),
    onkeydown: (event) => keys(event, duration, player),
  }, drawing("svg", {
    viewBox: `0 0 ${Math.max(1, outline.length)} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true",
  },
    drawing("clipPath", { id: clip }, played),
    drawing("path", { d: shape, class: "sv-shape" }),
    drawing("path", { d: shape, class: "sv-shape sv-shape-played", "clip-path": `url(#${clip})` })));
  const jump = (event) => {
    const box = root.getBoundingClientRect();
    player.seek(((event.clientX - box.left) / box.width) * duration);
  };
  const move = (share, seconds) => {
    played.setAttribute("width", share * outline.length);
    root.setAttribute("aria-valuenow", seconds.toFixed(1));
    root.setAttribute("aria-valuetext", clock(seconds));
  };
  return { root, move };
}

/** Mirrored bars, as one path; silence is a thin line. */
function path(outline) {
  const middle = HEIGHT / 2;
  const top = outline.map((peak, x) => `${x + 0.5},${(middle - Math.max(0.6, peak * (middle - 4))).toFixed(1)}`);
  const bottom = outline.map((peak, x) => `${x + 0.5},${(middle + Math.max(0.6, peak * (middle - 4))).toFixed(1)}`);
  return outline.length ? `M${top.join("L")}L${bottom.reverse().join("L")}Z` : "";
}

function keys(event, duration, player) {
  const to = {
    ArrowLeft: player.position - STEP_SECONDS, ArrowRight: player.position + STEP_SECONDS,
    Home: 0, End: duration,
  }[event.key];
  if (to === undefined && event.key !== " " && event.key !== "Enter") return;
  event.preventDefault();
  if (to === undefined) player.toggle();
  else player.seek(to);
}

/** Marks at round times, at most eight. */
function ruler(duration) {
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600].find((one) => duration / one <= 8) ?? 7200;
  const marks = [];
  for (let at = 0; at < duration * 0.97; at += step)
    marks.push(element("span", { style: { left: `${(at / duration) * 100}%` } }, clock(at, false)));
  return element("div", { class: "sv-ruler", "aria-hidden": "true" }, marks);
}

/** One bar for each segment. The lane is one stop of the tab key; arrows go from bar to bar. */
function lane(kind, segments, duration, player) {
  const bars = segments.map((segment, index) => {
    const tag = segment[kind.field];
    const name = label(kind.names, tag.label);
    const { background, foreground } = colours(kind.names, tag.label);
    const said = text("segment", {
      start: clock(segment.start), end: clock(segment.end), label: name, percent: percent(tag.confidence),
    });
    return element("button", {
      type: "button", class: "sv-bar", tabindex: index ? -1 : 0, "aria-label": said, title: said,
      style: {
        left: `${(segment.start / duration) * 100}%`, width: `${((segment.end - segment.start) / duration) * 100}%`,
        background, color: foreground,
      },
      "data-label": tag.label,
      onclick: () => player.playPart(segment.start, segment.end),
    }, element("span", {}, kind.field === "language" && tag.label in SHORT ? SHORT[tag.label] : name));
  });
  const walk = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = step && bars[bars.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };
  return element("div", {
    class: "sv-lane", role: "group", "aria-label": text(kind.title), "data-kind": kind.field, onkeydown: walk,
  }, bars);
}
