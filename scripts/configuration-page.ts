/** docs/configuration.md, made from src/env.ts by `npm run generate`; the tests check it for drift. */
import path from 'node:path';
import { VARIABLE_GUIDES } from '../src/env.ts';

export const CONFIGURATION_PAGE = path.resolve(import.meta.dirname, '../docs/configuration.md');

export function configurationPage(): string {
  const rows = Object.entries(VARIABLE_GUIDES).map(
    ([name, { fallback, meaning }]) => `| \`${name}\` | ${fallback} | ${meaning} |`,
  );
  return `# Configuration

Server, worker and commands are configured by environment variables. All invalid variables are reported together
at the start; an empty variable counts as not set. This page is made from \`src/env.ts\` by \`npm run generate\`.

| variable | when not set | meaning |
| --- | --- | --- |
${rows.join('\n')}

Flags take \`true\`, \`false\`, \`1\` or \`0\`.
`;
}
