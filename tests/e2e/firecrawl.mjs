// One call of Firecrawl's JavaScript package, as a user of it would write it.
//   FIRECRAWL_JS=…/dist/index.js FIRECRAWL_API_URL=… node firecrawl.mjs METHOD ARGUMENTS-AS-JSON
// Prints what came of it as JSON. `watch` is `app.watcher(…)` started and listened to until it is done.
const { default: Firecrawl } = await import(process.env.FIRECRAWL_JS);

const app = new Firecrawl({ apiKey: 'fc-any-key', apiUrl: process.env.FIRECRAWL_API_URL });

async function watch(jobId, options) {
  const watcher = app.watcher(jobId, options);
  const seen = { webSocket: typeof WebSocket === 'function', documents: [], snapshots: [], errors: [], done: null };
  watcher.on('document', (document) => seen.documents.push(document));
  watcher.on('snapshot', ({ status, completed, total }) => seen.snapshots.push({ status, completed, total }));
  watcher.on('error', ({ error }) => seen.errors.push(error));
  const done = new Promise((resolve) => watcher.on('done', resolve));
  await watcher.start();
  if (!seen.errors.length) seen.done = await done;
  watcher.close();
  return seen;
}

const [method, text] = process.argv.slice(2);
const parameters = JSON.parse(text);
const outcome = await (method === 'watch' ? watch(...parameters) : app[method](...parameters)).then(
  (result) => ({ result }),
  ({ message, status, code }) => ({ error: { message, status, code } }),
);
process.stdout.write(JSON.stringify(outcome), () => process.exit(0));
