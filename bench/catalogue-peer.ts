/**
 * The peer of the catalogue benchmark: a minimal Apollo server with one hand-written SQL statement.
 *
 *   node bench/catalogue-peer.ts <databaseUrl>      prints its address and serves until it is stopped
 */
import { ApolloServer } from '@apollo/server';
import { startStandaloneServer } from '@apollo/server/standalone';
import { Pool } from 'pg';

const databaseUrl = process.argv[2];
if (databaseUrl === undefined) throw new Error('usage: node bench/catalogue-peer.ts <databaseUrl>');
const pool = new Pool({ connectionString: databaseUrl, max: 10 });

const typeDefs = `#graphql
  type Query { datasets(first: Int!): DatasetConnection! }
  type DatasetConnection { nodes: [Dataset!]! }
  type Dataset {
    id: ID! slug: String! name: String! imageKind: String! imageCount: Int slideCount: Int licence: String publishedYear: Int
    organs: [Organ!]! stains: [Stain!]! resolutions: [Resolution!]!
  }
  type Organ { code: String! name: String! }
  type Stain { code: String! name: String! }
  type Resolution { magnification: Float micronsPerPixel: Float }
`;

const SQL = `
  SELECT d.id, d.slug, d.name, d."imageKind", d."imageCount", d."slideCount", d.licence, d."publishedYear",
    (SELECT coalesce(json_agg(json_build_object('code', o.code, 'name', o.name) ORDER BY o.name), '[]') FROM "DatasetOrgan" x JOIN "Organ" o ON o.code = x."organCode" WHERE x."datasetId" = d.id) AS organs,
    (SELECT coalesce(json_agg(json_build_object('code', s.code, 'name', s.name) ORDER BY s.name), '[]') FROM "DatasetStain" x JOIN "Stain" s ON s.code = x."stainCode" WHERE x."datasetId" = d.id) AS stains,
    (SELECT coalesce(json_agg(json_build_object('magnification', r.magnification, 'micronsPerPixel', r."micronsPerPixel") ORDER BY r.position), '[]') FROM "DatasetResolution" r WHERE r."datasetId" = d.id) AS resolutions
  FROM "Dataset" d ORDER BY lower(d.name), d.id LIMIT $1`;

const resolvers = {
  Query: {
    datasets: async (_root: unknown, args: { first: number }) => ({
      nodes: (await pool.query(SQL, [args.first])).rows,
    }),
  },
};

const server = new ApolloServer({ typeDefs, resolvers });
const { url } = await startStandaloneServer(server, { listen: { host: '127.0.0.1', port: 0 } });
console.log(url);
