/**
 * Hundreds of refusals, of pages of other sites and of wrong keys: valid keys must still pass, and the audit log must
 * stay short.
 */
import { randomUUID } from 'node:crypto';
import { DEFAULT_RATE_LIMITS } from '../src/api/rate-limit.ts';
import { at } from '../test/support/catalogue.ts';
import type { Attack } from './attack.ts';

const COUNT_NODES = '{ auditLog(first: 1) { totalCount } }';
/** Each of them is refused once as a page, and once as an address without a key. */
const FOREIGN: readonly Readonly<Record<string, string>>[] = [
  { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
  { 'sec-fetch-site': 'same-site', origin: 'http://127.0.0.1:1' },
  { origin: 'null' },
  { origin: 'https://elsewhere.example' },
];

export const lockout: Attack = {
  name: 'lockout',
  about: 'floods of requests from pages of other sites, with wrong keys and without any, to lock others out',
  share: 4,
  run: async ({ quick, startServer, random, isTimeLeft }) => {
    const server = await startServer({ env: { PARAFFIN_LOG_LEVEL: 'fatal' } });
    const findings: string[] = [];
    const entryCount = async (): Promise<number> =>
      Number(at(await server.ask(COUNT_NODES), 'data.auditLog.totalCount'));
    const statusOf = async (headers: Readonly<Record<string, string>>, query: string): Promise<number> => {
      const response = await fetch(`${server.url}/graphql`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ query }),
      });
      await response.arrayBuffer();
      return response.status;
    };
    const before = await entryCount();
    let tryCount = 0;
    for (let round = quick ? 25 : 250; round > 0 && isTimeLeft(); round -= 1) {
      const wrongKey = `pfn_${randomUUID().replaceAll('-', '')}_${'A'.repeat(43)}`;
      const hostile = await Promise.all([
        ...FOREIGN.map((headers) => statusOf(headers, '{ keys { totalCount } }')),
        statusOf({ authorization: `Bearer ${wrongKey}` }, '{ viewer { role } }'),
        statusOf({ authorization: `Bearer ${String(random())}` }, '{ viewer { role } }'),
        statusOf({}, '{ keys { totalCount } }'),
        statusOf({}, 'mutation { createKey(input: { name: "k", owner: "o", role: ADMIN }) { secret } }'),
      ]);
      tryCount += hostile.length;
      const [first] = hostile.slice(0, FOREIGN.length).filter((status) => status !== 403);
      if (first !== undefined) findings.push(`A page of another site was answered with ${first}.`);
      const friendly = await statusOf({ authorization: `Bearer ${server.adminKey}` }, '{ keys { totalCount } }');
      if (friendly !== 200) findings.push(`After ${tryCount} refusals a valid key was answered with ${friendly}.`);
      const reader = await statusOf({}, '{ datasets { totalCount } }');
      if (reader !== 200)
        findings.push(`After ${tryCount} refusals a reader on this machine was answered with ${reader}.`);
      if (findings.length > 0) break;
    }
    const entries = (await entryCount()) - before;
    // The count may restart once meanwhile, at the turn of a minute.
    const bound = 3 * DEFAULT_RATE_LIMITS.refusalsPerMinute;
    if (entries > bound)
      findings.push(`${tryCount} refusals left ${entries} entries in the audit log; at most ${bound} are allowed.`);
    return { tryCount, findings };
  },
};
