// Numbers, times and reasons as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const number = (value) => whole.format(value);

export const counted = (value, one, many = `${one}s`) => `${whole.format(value)} ${value === 1 ? one : many}`;

/** 0.4 and 12.3, but 1,234: more digits say nothing. */
export const rate = (value) => (value < 100 ? tenths : whole).format(value);

/** `1 min 20 s`: the two largest units. */
export function duration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [[Math.floor(seconds / 86_400), "d"], [Math.floor(seconds / 3600) % 24, "h"], [Math.floor(seconds / 60) % 60, "min"], [seconds % 60, "s"]];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return "0\u00a0s";
  const shown = parts.slice(first, first + 2).filter(([value]) => value > 0);
  return shown.map(([value, unit]) => `${value}\u00a0${unit}`).join(" ");
}

/** `just now`, `5 min ago`: the largest unit; after a week the date. */
export function age(then, now) {
  const seconds = Math.max(0, (now - then) / 1000);
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)}\u00a0s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}\u00a0min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}\u00a0h ago`;
  if (seconds < 604_800) return `${Math.floor(seconds / 86_400)}\u00a0d ago`;
  return new Date(then).toLocaleDateString("en", { dateStyle: "medium" });
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export const moment = (ms) => new Date(ms).toLocaleString("en", { dateStyle: "medium", timeStyle: "medium" });

const REASONS = {
  timeout: "Took too long to answer",
  dns: "The host name is not known",
  tls: "No secure connection",
  connection: "The host could not be reached",
  unreachable: "The host could not be reached",
  truncated: "The answer broke off",
  encoding: "The answer could not be decoded",
  too_large: "Larger than the limit",
  headers_too_large: "The answer's headers are too large",
  bad_response: "The answer is no valid HTTP",
  bad_redirect: "Redirects to no usable address",
  redirect_loop: "Redirects in a circle",
  redirect: "Redirects to another page",
  too_many_redirects: "Redirects too often",
  private_address: "The address is not public",
  content_type: "Not a text page",
  created: "Saved for the first time",
  updated: "Saved, changed since it was saved before",
  unchanged: "The same as it was saved before",
  depth: "Too many links from the start",
  budget: "Beyond the number of documents asked for",
  off_site: "On another site",
  not_below: "Not below the paths asked for",
  excluded: "Excluded by a pattern",
  not_included: "Matches no pattern asked for",
  invalid: "No web address",
  cancelled: "The crawl was cancelled",
  robots: "Not allowed by robots.txt",
  robots_disallowed: "Not allowed by robots.txt",
  internal_error: "A fault of the crawler",
};
const STATUSES = {
  400: "Bad request", 401: "Needs a login", 403: "Access denied", 404: "Not found", 405: "Method not allowed", 408: "Took too long to answer", 410: "Gone",
  429: "Too many requests", 451: "Withheld for legal reasons", 500: "Server error", 502: "Bad gateway", 503: "Service unavailable", 504: "Gateway timeout",
};

/** `http_404` as `Not found (404)`; what is not known stays readable. */
export function reasonInWords(reason) {
  if (!reason) return "No reason given";
  const status = /^http_(\d+)$/.exec(reason)?.[1];
  if (status) return `${STATUSES[status] ?? "Answered"} (${status})`;
  if (REASONS[reason]) return REASONS[reason];
  const ofRobots = /^robots_(.+)$/.exec(reason)?.[1];
  if (ofRobots) return `robots.txt: ${reasonInWords(ofRobots).toLowerCase()}`;
  const words = reason.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}

/** An address without what all of them share. */
export const shortUrl = (url) => url.replace(/^https?:\/\//, "").replace(/\/$/, "");
