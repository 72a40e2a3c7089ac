// Signing in: by the address (#token=…, which no log ever sees) or by the form.

import * as api from "./api.js";
import { button, fill, h } from "./dom.js";
import { number, t } from "./texts.js";

/** Takes a token out of the address, and it is gone from there and from the history; null where there is none. */
export function tokenFromAddress() {
  const match = /^#token=([^&]+)$/.exec(location.hash);
  if (!match) return null;
  history.replaceState(null, "", location.pathname);
  return match[1]; // a token's letters need no escaping
}

/** What to say of a refused sign-in. */
export function signInWords(problem) {
  if (problem.unanswered) return t("signin.unreachable");
  if (problem.status === 429) return t("signin.slow", { seconds: number(problem.retryAfter ?? 60) });
  if (problem.status === 401 || problem.status === 422 || problem.status === 400) return t("signin.refused");
  return t("signin.failed", { status: problem.status });
}

/** Shows the form in `container`; `done` is called once the agent knows us. */
export function showSignIn(container, { ended = false, said = null, done }) {
  const message = h("p", { class: "message", role: "alert", id: "signin-message", data: { kind: said ? "failed" : "none" } }, said);
  const field = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", spellcheck: "false", autocapitalize: "off", required: true, "aria-describedby": "signin-hint signin-message" });
  const press = button(t("signin.button"), () => {}, { kind: "primary wide" });
  press.type = "submit";
  const submit = async (event) => {
    event.preventDefault();
    const token = field.value.trim();
    if (!token) return field.focus();
    press.setAttribute("aria-disabled", "true");
    try {
      await api.signIn(token);
      field.value = "";
      return done();
    } catch (problem) {
      message.dataset.kind = "failed";
      message.textContent = signInWords(problem);
      press.removeAttribute("aria-disabled");
      field.select();
      return field.focus();
    }
  };
  fill(
    container,
    h(
      "form",
      { class: "signin", on: { submit }, novalidate: true },
      h("h2", {}, ended ? t("signin.ended") : t("signin.title")),
      h("p", {}, ended ? t("signin.ended_hint") : t("signin.intro")),
      h("label", { for: "token" }, t("signin.token")),
      field,
      message,
      press,
      h("p", { class: "hint", id: "signin-hint" }, t("signin.hint")),
    ),
  );
  field.focus({ preventScroll: true });
}
