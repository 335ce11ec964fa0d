// Calls to the site's own API. Errors arrive as ApiError with the sentence the server chose.

export class ApiError extends Error {
  constructor(status, { code = "network_error", message, request_id: requestId = null } = {}) {
    super(message ?? gettext("The server cannot be reached. Check the connection and try again."));
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

function csrfToken() {
  return document.querySelector('meta[name="csrf-token"]').content;
}

async function send(method, path, body) {
  const headers = { Accept: "application/json", "X-CSRFToken": csrfToken() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(`/api${path}`, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0);
  }
}

// Two tabs that refresh at the same moment would spend the same refresh token twice.
async function refreshSignIn() {
  const refresh = async () => (await send("POST", "/auth/refresh")).ok;
  return navigator.locks ? navigator.locks.request("llmsite-refresh", refresh) : refresh();
}

function goToSignIn() {
  const next = encodeURIComponent(location.pathname + location.search);
  location.assign(`/login/?next=${next}`);
}

/** The answer's JSON (null for 204). Throws ApiError; a lost sign-in leads to the sign-in page. */
export async function call(method, path, body) {
  let response = await send(method, path, body);
  if (response.status === 401 && (await refreshSignIn())) response = await send(method, path, body);
  if (response.status === 401) goToSignIn();
  if (response.status === 204) return null;
  const data = await response.json().catch(() => ({}));
  if (response.ok) return data;
  const fallback = { code: "unexpected_answer", message: gettext("The server gave no usable answer. Try again.") };
  throw new ApiError(response.status, data.error ?? fallback);
}
