// The HTTP API, with errors as people should read them.

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || `The gateway answered ${status}.`);
    this.errors = body?.errors ?? [];
  }
}

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body && { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, { detail: "The gateway can't be reached." });
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(response.status, answer);
  return answer;
}
