// Ask a server through OpenFeature's server SDK, as its users do. Questions come as JSON on stdin:
// {"url", "token", "questions": [[type, key, default, context], …]}; the details go to stdout.

import { text } from 'node:stream/consumers';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';

const { url, token, questions } = JSON.parse(await text(process.stdin));
const headers = [['Authorization', `Bearer ${token}`]];
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url, headers }));

const client = OpenFeature.getClient();
const details = [];
for (const [type, key, fallback, context] of questions) {
  details.push(await client[`get${type}Details`](key, fallback, context));
}
console.log(JSON.stringify(details));
await OpenFeature.close();
