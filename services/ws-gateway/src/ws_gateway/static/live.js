// Follows every job over the WebSocket, for as long as the page is open.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const SILENCE_MS = 45_000; // the gateway pings every 20 s

/**
 * Keep a socket open to `url` and pass on what comes.
 * onState(state): a job's full state. onConnection(name): "connecting", "live" or "waiting".
 */
export function follow(url, { onState, onConnection }) {
  let socket = null;
  let failures = 0;
  let watchdog = 0;
  let retry = 0;

  function connect() {
    clearTimeout(retry);
    onConnection("connecting");
    socket = new WebSocket(url);
    socket.onopen = () => {
      failures = 0;
      onConnection("live");
      stayAwake();
    };
    socket.onmessage = (event) => {
      stayAwake();
      receive(JSON.parse(event.data));
    };
    socket.onclose = (event) => lost(retryHint(event));
  }

  function receive({ type, payload }) {
    if (type === "parent_job_progress") onState(payload);
    else if (type === "ping") socket.send('{"type":"pong"}');
  }

  function lost(hintMs) {
    clearTimeout(watchdog);
    socket.onopen = socket.onmessage = socket.onclose = null;
    const backoff = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures++);
    const wait = hintMs ?? backoff * (0.5 + Math.random() / 2);
    onConnection("waiting");
    retry = setTimeout(connect, wait);
  }

  // A link that died without a word looks open for minutes.
  function stayAwake() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      socket.close();
      lost();
    }, SILENCE_MS);
  }

  addEventListener("online", () => {
    if (socket.readyState === WebSocket.CLOSED) connect();
  });
  connect();
}

function retryHint(event) {
  try {
    return JSON.parse(event.reason).retry_ms;
  } catch {
    return undefined;
  }
}
