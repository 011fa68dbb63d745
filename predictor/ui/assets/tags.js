// Labels with their colours: those of Okabe and Ito, which people with every kind of colour vision tell
// apart. A label's name is always written beside its colour.

import { element, percent } from "./dom.js";

const { label, text } = window.sensevoice;

const BLUE = "#0072b2", SKY = "#56b4e9", GREEN = "#009e73", YELLOW = "#f0e442", ORANGE = "#e69f00",
  VERMILION = "#d55e00", PURPLE = "#cc79a7", GREY = "#b4bcc8";
const DARK_TEXT = new Set([SKY, YELLOW, ORANGE, PURPLE, GREY]);

const COLOURS = {
  languages: { zh: VERMILION, en: BLUE, yue: ORANGE, ja: PURPLE, ko: GREEN },
  emotions: {
    HAPPY: ORANGE, SAD: BLUE, ANGRY: VERMILION, FEARFUL: PURPLE, DISGUSTED: GREEN, SURPRISED: YELLOW,
    NEUTRAL: SKY,
  },
  events: {
    Speech: SKY, BGM: PURPLE, Laughter: ORANGE, Applause: GREEN, Cry: BLUE, Sneeze: YELLOW, Cough: VERMILION,
    Breath: YELLOW, Sing: PURPLE, Speech_Noise: SKY,
  },
};

/** The three kinds of tags: the transcript's field, the texts' name, the lane's title. */
export const KINDS = [
  { field: "language", names: "languages", title: "lane_language" },
  { field: "emotion", names: "emotions", title: "lane_emotion" },
  { field: "event", names: "events", title: "lane_event" },
];

/** Background and text colour of a label. */
export function colours(names, tag) {
  const background = COLOURS[names][tag] ?? GREY;
  return { background, foreground: DARK_TEXT.has(background) ? "#16202c" : "#ffffff" };
}

/** A tag as a small round label with its probability. */
export function chip(kind, tag) {
  const name = label(kind.names, tag.label);
  return element("span", { class: "sv-chip", title: `${text(kind.title)}: ${name}` },
    element("span", { class: "sv-dot", style: { background: colours(kind.names, tag.label).background } }),
    name,
    element("span", { class: "sv-share" }, percent(tag.confidence)));
}

/** The chips of a segment or a whole transcript. */
export const chips = (tagged) =>
  element("span", { class: "sv-chips" }, KINDS.map((kind) => chip(kind, tagged[kind.field])));
