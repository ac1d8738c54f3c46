/**
 * Writes schema.graphql, the types of the resolvers, the command's list of pretraining methods and
 * docs/configuration.md from the code. Run by `npm run generate`,
 * after Prisma's client.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { buildSchema } from '../src/api/schema.ts';
import { methodNames } from '../src/protocol/pretraining/methods/index.ts';
import { CONFIGURATION_PAGE, configurationPage } from './configuration-page.ts';

buildSchema(true);
const methods = methodNames().map((name) => `  ${name}: true,\n`);
writeFileSync(
  path.resolve(import.meta.dirname, '../src/generated/pretraining-methods.ts'),
  `/** Written by npm run generate. */\nexport const PRETRAINING_METHODS = {\n${methods.join('')}} as const;\n`,
);
writeFileSync(CONFIGURATION_PAGE, configurationPage());
