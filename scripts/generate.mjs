/** Generates Prisma's client, schema.graphql and the resolvers' types again. */
import { generate, prepare } from './prepare.mjs';

prepare();
generate();
