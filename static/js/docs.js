// The documentation of the API: Swagger UI, in the site's colours and with its sign-in.

/* global SwaggerUIBundle */

const root = document.documentElement;
const frame = document.getElementById("api");
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");

function followTheme() {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches;
  root.classList.toggle("dark-mode", isDark);
}

// Where no key was given, the cookie of the page counts, which changes nothing without this proof.
function addProof(request) {
  request.headers["X-CSRFToken"] = document.querySelector('meta[name="csrf-token"]').content;
  return request;
}

new MutationObserver(followTheme).observe(root, { attributes: true, attributeFilter: ["data-theme"] });
systemIsDark.addEventListener("change", followTheme);
followTheme();

SwaggerUIBundle({
  url: frame.dataset.schema,
  domNode: frame,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  requestInterceptor: addProof,
  // It would send the schema to a server elsewhere.
  validatorUrl: null,
});
