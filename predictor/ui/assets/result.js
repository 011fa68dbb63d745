// What became of a file: a message, or its timeline and text. The states are those of `result.py`.

import { ICONS, clock, element, icon } from "./dom.js";
import { Player } from "./player.js";
import { chips } from "./tags.js";
import { timeline } from "./timeline.js";
import { confidenceLegend, segmentRow } from "./transcript.js";

const { text } = window.sensevoice;

const TYPES = { srt: "application/x-subrip", vtt: "text/vtt", json: "application/json" };

/** Draw now, and again whenever the state changes. */
export function mount(root, props, watch) {
  const place = root.querySelector(".sv-result");
  let player = null;
  const draw = () => {
    const value = props.value ?? { state: "idle" };
    player?.close();
    player = null;
    if (value.state === "done") player = new Player(fileUrl(value.audio), value.transcript.duration);
    place.dataset.state = value.state;
    place.replaceChildren(...(value.state === "done" ? finished(value, player) : [notice(value)]));
  };
  watch("value", draw);
  draw();
}

const fileUrl = (path) =>
  new URL(`gradio_api/file=${path.split("/").map(encodeURIComponent).join("/")}`, document.baseURI).href;

function notice(value) {
  const { title, detail, kind } = said(value);
  return element("div", { class: `sv-notice sv-notice-${kind}`, role: kind === "error" ? "alert" : "status" },
    kind === "busy" && element("span", { class: "sv-spinner", "aria-hidden": "true" }),
    element("div", {}, element("strong", {}, title), detail && element("p", {}, detail)));
}

function said(value) {
  switch (value.state) {
    case "idle": return { kind: "idle", title: text("idle_title"), detail: text("idle_text") };
    case "no_audio": return { kind: "hint", title: text("no_audio") };
    case "working": return { kind: "busy", title: text("working") };
    case "waking": {
      const late = value.waited > 2 * value.about;
      return {
        kind: "busy", title: text(late ? "waking_long" : "waking", value), detail: text("waking_detail", value),
      };
    }
    default: {
      const title = value.status === null ? "unreachable" : value.status === 429 || value.status === 503 ? "busy"
        : value.status < 500 ? "refused" : "failed";
      return { kind: "error", title: text(title), detail: value.message };
    }
  }
}

function finished(value, player) {
  const { transcript } = value;
  const segments = transcript.segments ?? [];
  const broken = element("p", { class: "sv-broken", hidden: true }, text("no_play"));
  player.audio.addEventListener("error", () => { broken.hidden = false; });
  const rows = segments.map((segment) => segmentRow(segment, player));
  return [
    element("section", { class: "sv-card" },
      element("div", { class: "sv-bar-top" }, controls(value, player),
        element("span", { class: "sv-overall" }, element("span", { class: "sv-quiet" }, text("overall")), chips(transcript))),
      timeline(value, player), broken),
    element("section", { class: "sv-card", "aria-label": text("text_title") },
      element("div", { class: "sv-bar-top" }, element("h2", {}, text("text_title")), confidenceLegend()),
      rows.length ? element("ol", { class: "sv-segments" }, rows)
        : element("p", { class: "sv-silent" }, text("no_speech")),
      saving(value)),
  ];
}

function controls(value, player) {
  const { duration } = value.transcript;
  const button = element("button", { type: "button", class: "sv-play", onclick: () => player.toggle() });
  const show = (playing) => {
    button.replaceChildren(icon(playing ? ICONS.pause : ICONS.play));
    button.setAttribute("aria-label", text(playing ? "pause" : "play"));
  };
  const time = element("span", { class: "sv-time" }, clock(0));
  player.switched.push(show);
  player.moved.push((seconds) => { time.textContent = clock(Math.min(seconds, duration)); });
  show(false);
  return element("div", { class: "sv-controls" }, button,
    element("span", {}, time, element("span", { class: "sv-quiet" }, ` / ${clock(duration)}`)));
}

function saving(value) {
  const link = (kind) => element("a", {
    class: "sv-button", download: `${value.name}.${kind}`,
    href: URL.createObjectURL(new Blob([value.files[kind]], { type: TYPES[kind] })),
  }, kind.toUpperCase());
  const copy = element("button", {
    type: "button", class: "sv-button",
    onclick: async () => {
      await navigator.clipboard.writeText(value.transcript.text);
      copy.textContent = text("copied");
    },
  }, text("copy"));
  return element("footer", { class: "sv-saving" },
    element("span", { class: "sv-quiet" }, text("took", {
      duration: clock(value.transcript.duration), seconds: value.seconds.toFixed(1),
    })),
    element("span", { class: "sv-buttons" },
      // Browsers give the clipboard only to secure pages.
      value.transcript.text && navigator.clipboard ? copy : null,
      element("span", { class: "sv-quiet" }, text("download")), Object.keys(TYPES).map(link)));
}
