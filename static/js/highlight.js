// Colours for code. Loaded only when an answer has a code block in a language of this list.

import hljs from "../vendor/highlightjs-11.12.0/core.min.js";
import bash from "../vendor/highlightjs-11.12.0/languages/bash.min.js";
import c from "../vendor/highlightjs-11.12.0/languages/c.min.js";
import cpp from "../vendor/highlightjs-11.12.0/languages/cpp.min.js";
import css from "../vendor/highlightjs-11.12.0/languages/css.min.js";
import diff from "../vendor/highlightjs-11.12.0/languages/diff.min.js";
import go from "../vendor/highlightjs-11.12.0/languages/go.min.js";
import java from "../vendor/highlightjs-11.12.0/languages/java.min.js";
import javascript from "../vendor/highlightjs-11.12.0/languages/javascript.min.js";
import json from "../vendor/highlightjs-11.12.0/languages/json.min.js";
import python from "../vendor/highlightjs-11.12.0/languages/python.min.js";
import ruby from "../vendor/highlightjs-11.12.0/languages/ruby.min.js";
import rust from "../vendor/highlightjs-11.12.0/languages/rust.min.js";
import sql from "../vendor/highlightjs-11.12.0/languages/sql.min.js";
import typescript from "../vendor/highlightjs-11.12.0/languages/typescript.min.js";
import xml from "../vendor/highlightjs-11.12.0/languages/xml.min.js";
import yaml from "../vendor/highlightjs-11.12.0/languages/yaml.min.js";

const languages = {
  bash, c, cpp, css, diff, go, java, javascript, json, python, ruby, rust, sql, typescript, xml, yaml,
};
for (const [name, definition] of Object.entries(languages)) hljs.registerLanguage(name, definition);

/** HTML of `code` with `hljs-…` classes, or null when the language is not known here. */
export function highlight(code, language) {
  if (!hljs.getLanguage(language)) return null;
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
