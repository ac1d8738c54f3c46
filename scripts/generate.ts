/**
 * Writes schema.graphql, the types of the resolvers and docs/configuration.md from the code. Run by `npm run generate`,
 * after Prisma's client.
 */
import { writeFileSync } from 'node:fs';
import { buildSchema } from '../src/api/schema.ts';
import { CONFIGURATION_PAGE, configurationPage } from './configuration-page.ts';

buildSchema(true);
writeFileSync(CONFIGURATION_PAGE, configurationPage());
