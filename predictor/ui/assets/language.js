// The page's language: the one that was chosen, else the browser's. Runs before everything else, so that
// gradio, which asks the browser, speaks it too.
(() => {
  const texts = TEXTS;
  const KEY = "sensevoice.language";
  const chosen = localStorage.getItem(KEY);
  const asked = [chosen, ...navigator.languages].filter(Boolean).map((code) => code.split("-")[0]);
  const language = asked.find((code) => code in texts) ?? "en";
  const locale = { en: "en", zh: "zh-CN" }[language];
  Object.defineProperty(navigator, "language", { value: locale });
  document.documentElement.lang = locale;

  window.sensevoice = {
    language,
    /** A text with its {names} filled in. */
    text: (name, values = {}) =>
      texts[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]),
    /** What a label of a kind (languages, emotions, events) is called; itself where it has no name. */
    label: (kind, label) => texts[language][kind][label] ?? label,
    /** The whole page again, in the other language. */
    switchLanguage: () => {
      localStorage.setItem(KEY, Object.keys(texts).find((code) => code !== language));
      location.reload();
    },
  };
})();
