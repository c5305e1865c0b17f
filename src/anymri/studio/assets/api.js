// Requests to the server of the studio, on this machine alone.

const POLL_MS = 200;
const GONE = [
  "The studio does not run any more, or the connection to it is interrupted.",
  "Start it again with `anymri studio` and open the address that it prints.",
];

/** Error of a request: what is wrong, and how to mend it. */
export class StudioError extends Error {
  constructor(what, fix, status = 0) {
    super(`${what} ${fix}`);
    this.what = what;
    this.fix = fix;
    this.status = status;
  }
}

/** Return the response of the server; throw a `StudioError` in words for every failure. */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new StudioError(...GONE);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** Return the JSON of a GET. */
export const get = async (path) => (await request(path)).json();

/** Return the JSON that answers a POST of `value`, or of a `FormData` or bytes. */
export async function post(path, value = {}, headers = {}) {
  const raw = value instanceof FormData || value instanceof Uint8Array;
  const type = raw ? {} : { "Content-Type": "application/json" };
  const body = raw ? value : JSON.stringify(value);
  return (await request(path, { method: "POST", body, headers: { "X-Anymri": "1", ...type, ...headers } })).json();
}

/** Close a case on the server. */
export const remove = (path) => request(path, { method: "DELETE", headers: { "X-Anymri": "1" } });

/** Return the result of a job once it is done; `onprogress` receives the job after each look at it. */
export async function finished(job, onprogress = () => {}) {
  for (;;) {
    onprogress(job);
    if (job.state === "done") return job.result;
    if (job.state === "failed") {
      throw new StudioError(job.error?.what ?? "The step failed.", job.error?.fix ?? "Start it again.");
    }
    if (job.state === "cancelled") throw new StudioError("The step was cancelled.", "Start it again when you need it.", 499);
    await new Promise((wake) => setTimeout(wake, POLL_MS));
    job = await get(`/api/jobs/${encodeURIComponent(job.id)}`);
  }
}

async function errorOf(response) {
  try {
    const { error } = await response.json();
    return new StudioError(error.what, error.fix, response.status);
  } catch {
    const what = `The studio refused the request (status ${response.status}).`;
    return new StudioError(what, "Reload the page; if it stays so, start the studio again.", response.status);
  }
}
