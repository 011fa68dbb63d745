// Title, state of the service, and the switch to the other language.

import { element } from "./dom.js";

const { language, text, switchLanguage } = window.sensevoice;

export function mount(root, props, watch) {
  const place = root.querySelector(".sv-header");
  const status = element("span", { class: "sv-status", role: "status" });
  const draw = () => {
    const value = props.value ?? {};
    status.dataset.state = value.state ?? "asking";
    status.textContent = value.state ? text(`status_${value.state}`, value) : "";
  };
  place.replaceChildren(
    element("div", { class: "sv-brand" },
      element("img", { src: "page/icon.svg", alt: "", width: 40, height: 40 }),
      element("div", {}, element("h1", {}, text("title")), element("p", {}, text("tagline")))),
    element("div", { class: "sv-side" }, status,
      element("button", {
        type: "button", class: "sv-button", onclick: switchLanguage, title: text("other_language_hint"),
        lang: language === "en" ? "zh-CN" : "en",
      }, text("other_language"))));
  watch("value", draw);
  draw();
}
