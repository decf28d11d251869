// Ask a server through OpenFeature's web SDK, which fetches all flags at once and polls for changes.
// Line by line on stdin: {"url", "token", "context"} to begin with, then [type, key, default] for
// each question, or "change" to wait until the flags have changed. Each gets a line on stdout.

import { createInterface } from 'node:readline';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => JSON.parse((await lines.next()).value ?? 'null');
const say = (value) => console.log(JSON.stringify(value));

const { url, token, context } = await next();
const statuses = [];
const provider = new OFREPWebProvider({
  baseUrl: url,
  headers: [['Authorization', `Bearer ${token}`]], // 0.4.3 fails on the map that its README shows
  pollInterval: 100,
  cacheMode: 'disabled',
  disableVisibilityRefresh: true,
  fetchImplementation: async (request) => {
    const response = await fetch(request);
    statuses.push(response.status);
    return response;
  },
});

try {
  await OpenFeature.setProviderAndWait(provider, context);
  say('ready');
} catch (error) {
  say({ errorCode: error.code, message: error.message });
}

const client = OpenFeature.getClient();
let changed;
client.addHandler(ProviderEvents.ConfigurationChanged, (event) => changed?.(event.flagsChanged));

for (let line = await next(); line !== null; line = await next()) {
  if (line === 'change') {
    const waiting = new Promise((resolve) => { changed = resolve; });
    say('waiting');
    say(await waiting);
  } else if (line === 'statuses') {
    say(statuses);
  } else if (Array.isArray(line)) {
    const [type, key, fallback] = line;
    say(client[`get${type}Details`](key, fallback));
  } else {
    await OpenFeature.setContext(line);
    say('ready');
  }
}
await OpenFeature.close();
