/** Writes schema.graphql and the types of the resolvers from the code. Run by `npm run generate`, after Prisma's client. */
import { buildSchema } from '../src/api/schema.ts';

buildSchema(true);
