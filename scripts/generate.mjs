/** Generates Prisma's client, schema.graphql and the resolvers' types anew. */
import { generate, prepare } from './prepare.mjs';

prepare();
generate();
