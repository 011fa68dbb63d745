// The live tab: a button, the loudness, and what was said, newest below.

import { ICONS, element, icon } from "./dom.js";
import { Session } from "./realtime.js";
import { segmentRow } from "./transcript.js";

const { text } = window.sensevoice;

const TRANSCRIPTION = "conversation.item.input_audio_transcription.";

export function mount(root) {
  const page = new LivePage();
  root.querySelector(".sv-live").replaceChildren(page.stage, page.said);
}

class LivePage {
  constructor() {
    this.session = null;
    this.rows = new Map(); // By the item's id, in the order in which they were said.
    this.button = element("button", { type: "button", class: "sv-round", onclick: () => this.#toggle() });
    this.level = element("i");
    this.status = element("strong", {});
    this.hint = element("p", { class: "sv-quiet" });
    this.list = element("ol", { class: "sv-segments", "aria-live": "polite" });
    this.stage = element("section", { class: "sv-card sv-stage" }, this.button,
      element("div", { class: "sv-now-text", role: "status" }, this.status, this.hint),
      element("div", { class: "sv-level", "aria-hidden": "true", title: text("live_level") }, this.level));
    this.said = element("section", { class: "sv-card", "aria-label": text("live_transcript"), hidden: true },
      element("h2", {}, text("live_transcript")), this.list);
    this.#show("idle");
  }

  #toggle() {
    if (this.session) return this.session.stop();
    this.rows.clear();
    this.list.replaceChildren();
    this.said.hidden = true;
    this.session = new Session(
      {
        language: document.querySelector("#sv-language input:checked")?.value ?? "auto",
        useItn: document.querySelector("#sv-itn input")?.checked ?? true,
      },
      {
        state: (name, detail) => this.#show(name, detail),
        event: (event) => this.#event(event),
        level: (loudness) => { this.level.style.transform = `scaleX(${loudness})`; },
      });
  }

  #show(name, detail = {}) {
    const resting = name === "idle" || name === "ended" || name === "failed";
    if (resting) this.session = null;
    this.stage.dataset.state = name;
    this.button.replaceChildren(icon(resting ? ICONS.microphone : ICONS.stop));
    this.button.setAttribute("aria-pressed", String(!resting));
    this.button.setAttribute("aria-label", text(resting ? "live_start" : "live_stop"));
    this.button.disabled = name === "finishing";
    this.status.textContent = {
      idle: text("live_start"), connecting: text("live_connecting"), listening: text("live_listening"),
      finishing: text("live_finishing"), ended: text("live_start"), failed: text("failed"),
      waking: name === "waking" && text("waking", detail),
    }[name];
    this.hint.textContent = detail.message ?? (name === "waking" ? text("waking_detail", detail) : text("live_hint"));
  }

  #event(event) {
    switch (event.type) {
      case "input_audio_buffer.speech_started":
        this.status.textContent = text("live_speaking");
        break;
      case "input_audio_buffer.speech_stopped":
        this.status.textContent = text("live_listening");
        break;
      case `${TRANSCRIPTION}delta`:
        if (event.partial) this.#put(event.item_id, partialRow(event.partial));
        break;
      case `${TRANSCRIPTION}completed`:
        this.#put(event.item_id, segmentRow(asSegment(event)));
        break;
      case `${TRANSCRIPTION}failed`:
      case "error":
        this.hint.textContent = event.error.message;
    }
  }

  #put(item, row) {
    const before = this.rows.get(item);
    if (before) before.replaceWith(row);
    else this.list.append(row);
    this.rows.set(item, row);
    this.said.hidden = false;
    row.scrollIntoView({ block: "nearest" });
  }
}

const partialRow = (said) =>
  element("li", { class: "sv-segment" }, element("p", { class: "sv-words sv-partial" }, said));

/** A completed turn as a segment of a transcript. Its words lack signs that stand alone: then the text is
 * shown as a whole. */
function asSegment({ transcript, words, language, language_confidence: confidence, emotion, event }) {
  const whole = words.map(({ word }) => word).join("") === transcript.replaceAll(" ", "");
  return {
    start: 0, end: 0, text: transcript, language: { label: language, confidence }, emotion, event,
    words: whole ? words.map(({ word, ...rest }) => ({ text: word, ...rest })) : [],
  };
}
