// Carries a question over the sign-in page, when the sign-in ran out while it was typed.

const KEY = "draft";

export function keepDraft(text) {
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // Without storage the question has to be typed again.
  }
}

/** The kept question, once; empty when there is none. */
export function takeDraft() {
  try {
    const text = sessionStorage.getItem(KEY) ?? "";
    sessionStorage.removeItem(KEY);
    return text;
  } catch {
    return "";
  }
}
